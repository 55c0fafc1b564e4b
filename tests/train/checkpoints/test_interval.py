"""The interval: the least is lost there, and why is said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.checkpoints.interval import LONGEST_S, PRIOR_MTBF_S, PRIOR_STALL_S, SHORTEST_S, Rates, best_interval_s, rates, reason


def lost(interval_s: float, stall_s: float, mtbf_s: float) -> float:
    """Expected wall time for a second of work when failures come at random (Daly 2006, equation 20, without restarts)."""
    return mtbf_s / interval_s * math.expm1((interval_s + stall_s) / mtbf_s)


@given(st.floats(0.01, 60), st.floats(600, 1e6))
def test_no_other_interval_loses_noticeably_less(stall_s: float, mtbf_s: float) -> None:
    chosen = best_interval_s(stall_s, mtbf_s)
    others = [SHORTEST_S * (LONGEST_S / SHORTEST_S) ** (step / 200) for step in range(201)]
    least = min(lost(other, stall_s, mtbf_s) for other in others)
    assert lost(chosen, stall_s, mtbf_s) <= least * 1.001


def test_it_stays_within_limits() -> None:
    assert best_interval_s(0.0001, 10.0) == SHORTEST_S
    assert best_interval_s(60.0, 1e9) == LONGEST_S
    assert best_interval_s(100.0, 10.0) == 10.0


def test_without_observations_the_assumption_is_said() -> None:
    found = rates(0, 0.0, [])
    assert found.mtbf_s == PRIOR_MTBF_S
    assert reason(found, 1) == "checkpoint every 131 s (assumed stall 100 ms, no failure in 0.0 worker hours, one a day and worker assumed)"


def test_failures_and_stalls_that_were_seen_count() -> None:
    found = rates(9, 36_000.0, [0.3, 0.1, 0.2])
    assert found.mtbf_s == (PRIOR_MTBF_S + 36_000) / 10
    assert found.stall_s == 0.2
    assert reason(found, 4) == "checkpoint every 35 s (measured stall 200 ms, 9 failures in 10.0 worker hours)"
    assert rates(0, 1e7, []).mtbf_s > PRIOR_MTBF_S


@pytest.mark.parametrize(
    ("stall_s", "mtbf_s", "interval_s"),
    [
        # sqrt(2*M*d) * (1 + sqrt(d/2M)/3 + (d/2M)/9) - d, by hand
        (0.5, 10_000.0, 100.0 * (1 + 0.005 / 3 + 0.000025 / 9) - 0.5),
        (2.0, 100.0, 20.0 * (1 + 0.1 / 3 + 0.01 / 9) - 2.0),
        (8.0, 400.0, 80.0 * (1 + 0.1 / 3 + 0.01 / 9) - 8.0),
        (50.0, 100.0, 100.0 * (1 + 0.5 / 3 + 0.25 / 9) - 50.0),
    ],
)
def test_dalys_interval_by_hand(stall_s: float, mtbf_s: float, interval_s: float) -> None:
    assert best_interval_s(stall_s, mtbf_s) == pytest.approx(interval_s)


@pytest.mark.parametrize(
    ("stall_s", "mtbf_s", "interval_s"), [(20.0, 10.0, 10.0), (1e6, 1e5, LONGEST_S), (9.0, 2.0, SHORTEST_S), (0.0, 1e6, SHORTEST_S)]
)
def test_where_stalls_are_longer_than_lives_or_cost_nothing(stall_s: float, mtbf_s: float, interval_s: float) -> None:
    assert best_interval_s(stall_s, mtbf_s) == interval_s


@given(st.floats(0.0, 1e5), st.floats(1.0, 1e8), st.floats(1.0, 100.0))
def test_rarer_failures_never_make_checkpoints_more_frequent(stall_s: float, mtbf_s: float, times: float) -> None:
    interval_s = best_interval_s(stall_s, mtbf_s)
    assert SHORTEST_S <= interval_s <= LONGEST_S
    if stall_s < mtbf_s:
        assert best_interval_s(stall_s, mtbf_s * times) >= interval_s - 1e-6


@pytest.mark.parametrize(
    ("stalls_s", "stall_s"), [([], PRIOR_STALL_S), ([0.4], 0.4), ([0.4, 0.2], 0.4), ([9.0, 0.1, 0.2], 0.2), ([4.0, 1.0, 3.0, 2.0], 3.0)]
)
def test_a_stall_is_the_middle_one_of_those_measured(stalls_s: list[float], stall_s: float) -> None:
    found = rates(0, 0.0, stalls_s)
    assert (found.stall_s, found.stalls) == (stall_s, len(stalls_s))


@pytest.mark.parametrize(
    ("failures", "observed_s", "mtbf_s"), [(0, 86_400.0, 172_800.0), (1, 0.0, 43_200.0), (1, 86_400.0, 86_400.0), (23, 0.0, 3600.0)]
)
def test_the_prior_is_worth_one_failure(failures: int, observed_s: float, mtbf_s: float) -> None:
    assert rates(failures, observed_s, []).mtbf_s == mtbf_s


def test_more_workers_fail_more_often_and_one_failure_is_singular() -> None:
    found = Rates(mtbf_s=40_000.0, stall_s=0.5, failures=1, observed_s=1800.0, stalls=1)
    assert reason(found, 4) == "checkpoint every 100 s (measured stall 500 ms, 1 failure in 0.5 worker hours)"
    assert reason(found, 1).startswith("checkpoint every 200 s")
