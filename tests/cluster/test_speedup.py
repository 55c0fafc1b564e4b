"""The speedup of a job from its own steps: a known machine is found again, and what was not measured is hoped for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.cluster.speedup import Batches, GradientNoise, Observation, StepModel, goodputs, speedups

BATCHES = Batches(usual=32, most=1024, least_micro=4, most_micro=64)
NOISY = GradientNoise(squared=1.0, variance=1e9)  # a larger batch costs nothing
CLEAN = GradientNoise(squared=1.0, variance=0.0)  # a larger batch gains nothing


def step(nodes: int, ranks: int, micro: int) -> Observation:
    """A machine: 20 ms and 1 ms a sample; 5 ms within a node, 30 ms across, and 1 and 2 ms for each rank beyond two."""
    sync_s = 0.0 if ranks == 1 else (0.005 + 0.001 * (ranks - 2) if nodes == 1 else 0.030 + 0.002 * (ranks - 2))
    return Observation(nodes, ranks, micro, 0.020 + 0.001 * micro + sync_s, sync_s)


SEEN = [step(1, 1, 8), step(1, 1, 32), step(1, 2, 16), step(1, 4, 16), step(2, 8, 16), step(4, 16, 16)]


def test_a_known_machine_is_found_again() -> None:
    model = StepModel.fit(SEEN)
    assert model.compute == pytest.approx((0.020, 0.001))
    assert model.within == pytest.approx((0.005, 0.001))
    assert model.across == pytest.approx((0.030, 0.002))
    assert model.sync_s(np.array([1.0, 1.0, 3.0]), np.array([1.0, 3.0, 12.0])) == pytest.approx([0.0, 0.006, 0.050])


def test_one_rank_alone_hopes_for_a_perfect_speedup() -> None:
    model = StepModel.fit([step(1, 1, 32)])
    assert model.compute == pytest.approx((0.026, 0.026 / 32)), "half is taken to be constant"
    assert model.sync_s(np.array([2.0]), np.array([8.0])) == 0.0


def test_across_nodes_is_never_hoped_to_be_cheaper_than_within() -> None:
    model = StepModel.fit([step(1, 1, 32), step(1, 2, 32)])
    within, across = model.sync_s(np.array([1.0, 2.0]), np.array([2.0, 2.0]))
    assert across == pytest.approx(1.1 * within)


def test_times_that_fall_with_the_batch_give_no_negative_coefficient() -> None:
    falling = [Observation(1, 1, 8, 0.05, 0.0), Observation(1, 1, 64, 0.04, 0.0)]
    assert StepModel.fit(falling).compute == pytest.approx((0.045, 0.0))
    steep = [Observation(1, 1, 8, 0.001, 0.0), Observation(1, 1, 64, 0.064, 0.0)]
    constant, slope = StepModel.fit(steep).compute
    assert constant == 0.0 and slope > 0


def test_efficiency_is_one_at_the_usual_batch_and_falls_to_what_noise_leaves() -> None:
    noise = GradientNoise(squared=1.0, variance=3.0)
    # (var + sqr) / (var / scale + sqr) / scale: at 3 times the batch (3 + 1) / (1 + 1) / 3
    assert noise.efficiency(np.array([1.0, 3.0])) == pytest.approx([1.0, 2 / 3])
    assert CLEAN.efficiency(np.array([4.0])) == pytest.approx([0.25])
    assert NOISY.efficiency(np.array([4.0])) == pytest.approx([1.0], rel=1e-6)


def test_a_noisy_gradient_takes_the_largest_batch_and_a_clean_one_the_usual() -> None:
    model, four = StepModel.fit(SEEN), (np.array([1.0]), np.array([4.0]))
    (large,) = goodputs(model, NOISY, BATCHES, *four)
    assert 4 * large.micro_batch * large.accumulate == BATCHES.most
    assert large.micro_batch <= BATCHES.most_micro
    (usual,) = goodputs(model, CLEAN, BATCHES, *four)
    assert (usual.micro_batch, usual.accumulate) == (8, 1)
    assert usual.goodput == pytest.approx(32 / (0.020 + 0.008 + 0.007))


def test_one_rank_beyond_its_usual_batch_accumulates_so_that_noise_can_be_measured() -> None:
    (alone,) = goodputs(StepModel.fit(SEEN), NOISY, BATCHES, np.array([1.0]), np.array([1.0]))
    assert alone.accumulate >= 2


def test_more_ranks_than_the_largest_batch_feeds_have_no_goodput() -> None:
    (none,) = goodputs(StepModel.fit(SEEN), NOISY, Batches(32, 64, 16, 64), np.array([2.0]), np.array([8.0]))
    assert none.goodput == 0.0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([(1, 1), (1, 2), (1, 4), (2, 8), (3, 12)]), st.integers(4, 64)), min_size=1, max_size=8),
    st.floats(0.001, 1e6),
    st.integers(1, 32),
)
def test_more_devices_never_look_slower(seen: list[tuple[tuple[int, int], int]], variance: float, most: int) -> None:
    model = StepModel.fit([step(nodes, ranks, micro) for (nodes, ranks), micro in seen])
    found = speedups(model, GradientNoise(1.0, variance), BATCHES, most, 4)
    assert found.shape == (most + 1,)
    assert found[0] == 0.0 and found[1] == pytest.approx(1.0)
    assert (np.diff(found) >= 0).all()
