"""The model of a step, against runs that were simulated event by event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.train.doctor.steps import Work, jitter_s, work_of
from train.timelines import Scenario, simulate


def test_the_parts_sum_to_the_step() -> None:
    for scenario in (Scenario(1), Scenario(2, data=1), Scenario(3, data=2, pipeline=4, micro_batches=16)):
        run = simulate(scenario).measured()
        assert run.mean(work_of(run).time_s()) == pytest.approx(run.mean(run.step_s), rel=0.05)


def test_the_link_gets_what_waiting_for_ranks_does_not_explain() -> None:
    for scenario in (
        Scenario(1, data=8, link_s=0.006),
        Scenario(1, data=8, link_s=0.006, slow={3: 1.5}),
        Scenario(1, data=8, compute_s=0.012),
    ):
        run = simulate(scenario).measured()
        assert run.mean(work_of(run).link_s) == pytest.approx(scenario.link_s, rel=0.15, abs=0.0003)


def test_a_pipeline_takes_the_time_that_its_operations_take() -> None:
    for stages, micro_batches in ((2, 4), (4, 8), (4, 32)):
        scenario = Scenario(5, data=1, pipeline=stages, micro_batches=micro_batches, jitter=0.001, link_s=0.0)
        run = simulate(scenario).measured()
        work = work_of(run)
        assert run.mean(work.stepping_s()) == pytest.approx(run.mean(run.step_s), rel=0.01)
        assert run.mean(work.bubble_s()) == pytest.approx(0.05 * (stages - 1) / micro_batches, rel=0.02)


def test_more_parts_a_rank_divide_the_bubble() -> None:
    run = simulate(Scenario(5, data=1, pipeline=4, micro_batches=8)).measured()
    work = work_of(run)
    assert replace(work, stages_per_rank=2).bubble_s() == pytest.approx(work.bubble_s() / 2)


def test_jitter_is_what_equal_ranks_wait_for_one_another() -> None:
    fast = simulate(Scenario(1, data=8, compute_s=0.008, jitter=0.05, steps=2000)).measured()
    assert fast.steps.min() > 1
    own = np.random.default_rng(0).normal(0.008, 0.0004, (100_000, 8))
    assert jitter_s(fast).mean() == pytest.approx(float(own.max(axis=1).mean()) - 0.008, rel=0.3)
    assert jitter_s(simulate(Scenario(1, data=8, compute_s=0.5)).measured()).max() == 0.0, "single steps show it as it was"
    assert jitter_s(simulate(Scenario(1, data=1)).measured()).max() == 0.0


def work(compute_s: list[float], input_s: list[float], *, stages: int = 1, micro_batches: float = 1, stages_per_rank: int = 1) -> Work:
    """One stretch; ranks of one stage come one after the other, and nobody waits for the link."""
    count = len(compute_s)
    return Work(
        input_s=np.array([input_s]), compute_s=np.array([compute_s]), other_s=np.full((1, count), 0.5),
        checkpoint_s=np.zeros(1), link_s=np.zeros(1), micro_batches=micro_batches, stages_per_rank=stages_per_rank,
        stage=np.repeat(np.arange(stages), count // stages), replica=np.tile(np.arange(count // stages), stages),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "expected_s"),
    [
        (work([2.0, 3.0], [1.5, 0.0]), 4.0),  # 2 + 1.5 + 0.5, though the other computes longer
        (work([4.0, 8.0], [1.0, 0.0], stages=2, micro_batches=4), 1 + (4 * 2 + 1) + 0.5),
        (work([4.0, 8.0], [1.0, 0.0], stages=2, micro_batches=4, stages_per_rank=2), 1 + (4 * 2 + 1 / 2) + 0.5),
        (work([4.0, 4.0, 8.0, 4.0], [0.0, 2.0, 0.0, 0.0], stages=2, micro_batches=4), max(4 * 2 + 1, 2 + 4 * 1 + 1) + 0.5),
    ],
    ids=["copies", "pipeline", "interleaved", "two pipelines"],
)
def test_the_time_of_a_step_worked_out_by_hand(one: Work, expected_s: float) -> None:
    assert one.time_s().tolist() == [expected_s]
    with_rest = replace(one, link_s=np.array([0.25]), checkpoint_s=np.array([0.125]))
    assert with_rest.time_s().tolist() == [expected_s + 0.375]
    assert with_rest.stepping_s().tolist() == [expected_s]


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=4, max_size=4), st.integers(1, 16), st.integers(0, 3))
def test_a_rank_that_computes_less_never_makes_a_step_longer(compute_s: list[float], micro_batches: int, rank: int) -> None:
    less = [each / 2 if place == rank else each for place, each in enumerate(compute_s)]
    for stages in (1, 2, 4):
        before, after = (work(each, [0.0] * 4, stages=stages, micro_batches=micro_batches) for each in (compute_s, less))
        assert after.time_s()[0] <= before.time_s()[0] + 1e-9
        assert before.time_s()[0] >= max(compute_s) + 0.5 - 1e-9, "no faster than its slowest rank"
