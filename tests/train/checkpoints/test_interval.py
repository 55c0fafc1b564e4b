"""The interval: the least is lost there, and why is said."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.checkpoints.interval import LONGEST_S, PRIOR_MTBF_S, SHORTEST_S, best_interval_s, rates, reason


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
