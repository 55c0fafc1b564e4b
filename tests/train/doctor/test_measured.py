"""What was measured, laid out for the rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bedplate.train.doctor.measured import measured
from bedplate.train.mesh import Mesh
from bedplate.train.timers import SPANS


def row(last: int, steps: int, per: int, **spans_us: int) -> dict[str, Any]:
    """A row whose entries are all alike; microseconds are of one step."""
    counts = [per] * (steps // per) + ([steps % per] if steps % per else [])
    spans = {name: [value * count for count in counts] for name, value in spans_us.items()}
    return {"step": last, "steps": steps, "per": per, "micro_batches": 1, "longest": 0, "since": 0, "spans": spans}


def test_ranks_whose_rows_end_at_different_steps_are_read_at_common_ones() -> None:
    one = [row(60, 60, 2, compute=1000), row(100, 40, 2, compute=3000)]
    other = [row(35, 35, 1, compute=2000), row(98, 63, 3, compute=2000, input=500)]
    found = measured([one, other])
    assert found is not None
    assert found.steps.sum() == 98 - 5, "to the last common step, without the first ones"
    assert found.of("compute")[:, 1] == pytest.approx(0.002)
    assert found.mean(found.of("compute")[:, 0]) == pytest.approx((55 * 1 + 38 * 3) / 93 / 1000)
    assert found.mean(found.of("input")[:, 1]) == pytest.approx(0.0005 * 63 / 93)
    assert found.spans.shape == (93, 2, len(SPANS))


def test_many_steps_are_cut_into_few_stretches_that_keep_the_sum() -> None:
    found = measured([[row(5000, 5000, 10, compute=1000)]])
    assert found is not None
    assert len(found.steps) == 200
    assert float((found.step_s * found.steps).sum()) == pytest.approx(found.steps.sum() * 0.001)


def test_too_few_steps_say_nothing() -> None:
    assert measured([[row(9, 9, 1, compute=1000)]]) is None
    assert measured([[]]) is None
    assert measured([]) is None
    assert measured([[row(50, 50, 1, compute=1)], [row(90, 40, 1, compute=1)]]) is None, "no step in common"


def test_a_mesh_says_where_ranks_sit() -> None:
    found = measured([[row(60, 60, 1, compute=1000)]] * 4, Mesh(data=2, pipeline=2, micro_batches=8))
    assert found is not None
    assert found.stage.tolist() == [0, 0, 1, 1]
    assert found.replica.tolist() == [0, 1, 0, 1]
    assert found.micro_batches == 8
    for wrong in (None, Mesh(data=3)):
        flat = measured([[row(60, 60, 1, compute=1000)]] * 4, wrong)
        assert flat is not None and flat.stage.tolist() == [0] * 4 and flat.replica.tolist() == [0, 1, 2, 3]


def test_counters_and_delays_are_a_step() -> None:
    first = row(50, 50, 1, compute=1000) | {"counters": {"read_bytes": 5000.0}, "delay": [200] * 50}
    second = row(100, 50, 1, compute=1000) | {"counters": {"read_bytes": 10_000.0}}
    found = measured([[first, second]])
    assert found is not None
    assert found.counters["read_bytes"][0] == pytest.approx((45 * 100 + 50 * 200) / 95)
    assert found.mean(found.delay[:, 0]) == pytest.approx(45 * 0.0002 / 95)


def test_noise_of_one_step_is_seen_through_sums_of_several() -> None:
    random = np.random.default_rng(1)
    for per in (1, 10):
        seconds = random.normal(20_000, 1000, (400, per)).sum(axis=1).astype(int)
        found = measured([[row(400 * per, 400 * per, per) | {"spans": {"compute": seconds.tolist()}}]])
        assert found is not None
        assert found.noise[0] == pytest.approx(0.001, rel=0.25)
