"""What was measured, laid out for the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.train.doctor.measured import Profile, measured
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


def test_the_first_steps_are_left_out_a_twentieth_of_all_but_at_most_fifty() -> None:
    for steps, left_out in ((20, 2), (200, 10), (4000, 50)):
        found = measured([[row(steps, steps, 1, compute=1000)]])
        assert found is not None and found.steps.sum() == steps - left_out


def test_steps_of_a_profiled_window_are_left_out() -> None:
    """Steps 41 to 50 were profiled and took twenty times as long; so the one before, in which the profiler starts, and one after."""
    rows = [row(40, 40, 1, compute=1000), row(50, 10, 1, compute=20_000), row(100, 50, 1, compute=1000)]
    window = Profile(100, 1e-6, 0.001, steps=10, last=50)
    plain, cut = measured([rows]), measured([rows], profile=window)
    assert plain is not None and cut is not None
    assert plain.of("compute").max() == pytest.approx(0.020)
    assert cut.of("compute").max() == pytest.approx(0.001)
    assert cut.steps.sum() == plain.steps.sum() - 12
    assert measured([rows], profile=replace(window, last=0)) is not None, "an unknown window cuts nothing"
    assert measured([rows[:2]], profile=replace(window, steps=45, last=50)) is None, "nothing is left"


def test_an_entry_that_sums_a_profiled_step_up_with_others_is_left_out_whole() -> None:
    rows = [row(100, 100, 10, compute=1000)]
    cut = measured([rows], profile=Profile(100, 1e-6, 0.001, steps=2, last=45))
    assert cut is not None
    assert cut.steps.sum() == 95 - 10, "steps 41 to 50 are one entry"


def test_one_rank_without_a_step_says_nothing_of_all() -> None:
    good, idle = row(50, 50, 1, compute=1000), row(0, 0, 1)
    assert measured([[good], [idle]]) is None
    found = measured([[idle, good], [good]])
    assert found is not None and found.ranks == 2, "a row without steps among others is passed over"


def test_a_counter_that_one_rank_lacks_is_not_told() -> None:
    counted = row(50, 50, 1, compute=1000) | {"counters": {"read_bytes": 500.0, "switches": 50.0}}
    other = row(50, 50, 1, compute=1000) | {"counters": {"switches": 100.0}}
    found = measured([[counted], [other]])
    assert found is not None
    assert {name: values.tolist() for name, values in found.counters.items()} == {"switches": [1.0, 2.0]}


def test_means_count_each_stretch_by_its_steps() -> None:
    found = measured([[row(120, 120, 1, compute=1000, input=500)]])
    assert found is not None
    uneven = replace(found, spans=found.spans[:2].copy(), steps=np.array([3, 1]), delay=found.delay[:2])
    uneven.spans[1] *= 5
    assert uneven.mean(uneven.step_s) == pytest.approx(0.0015 * (3 * 1 + 1 * 5) / 4)
    assert uneven.of("compute", "input")[:, 0] == pytest.approx([0.0015, 0.0075])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 7), st.integers(0, 5000)), min_size=1, max_size=6))
def test_however_rows_are_cut_the_seconds_of_the_measured_steps_are_kept(rows: list[tuple[int, int, int]]) -> None:
    """The time of every single step is known here; entries of several steps may be cut only by the warm-up's edge."""
    made, each_us, last = [], [], 0
    for steps, per, compute_us in rows:
        last += steps
        made.append(row(last, steps, per, compute=compute_us))
        each_us += [compute_us] * steps
    found = measured([made])
    if found is None:
        assert last < 12
        return
    kept = int(found.steps.sum())
    assert 8 <= kept <= last - 2 and len(found.steps) <= 200
    assert float((found.of("compute")[:, 0] * found.steps).sum()) == pytest.approx(sum(each_us[last - kept :]) / 1e6)
    assert (found.spans >= 0).all()
