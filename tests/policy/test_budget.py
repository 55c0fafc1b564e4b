"""A budget: what a period has, what is left, and that a stopped run overshoots by less than a checkpoint interval."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.policy.budget import Budget, Spending, must_stop, parse_budget, spent_micros

NOON = datetime(2026, 3, 15, 12, tzinfo=UTC).timestamp()
DAILY = Budget(10_000_000, "USD", "day")


@pytest.mark.parametrize(("period", "began"), [("day", (2026, 3, 15)), ("month", (2026, 3, 1)), ("year", (2026, 1, 1))])
def test_a_period_begins_at_midnight_utc(period: str, began: tuple[int, int, int]) -> None:
    budget = parse_budget(f"10 USD per {period}")
    assert budget == Budget(10_000_000, "USD", period)
    assert budget.began_s(NOON) == datetime(*began, tzinfo=UTC).timestamp()


def test_what_was_spent_before_the_period_does_not_count() -> None:
    over_midnight = Spending(NOON - 24 * 3600, NOON - 11 * 3600, 1_000_000)
    assert spent_micros(DAILY, [over_midnight], NOON) == 1_000_000
    assert spent_micros(DAILY, [Spending(NOON - 3600, None, 4_000_000)], NOON) == 4_000_000
    assert spent_micros(DAILY, [Spending(NOON - 90_000, NOON - 80_000, 4_000_000)], NOON) == 0


def test_runs_are_to_stop_once_it_is_spent() -> None:
    running = [Spending(NOON - 2 * 3600, None, 5_000_000)]
    assert must_stop(DAILY, running, NOON)
    assert not must_stop(DAILY, running, NOON - 1)


@given(
    rate=st.integers(1, 10**9),
    hours=st.floats(0, 2000),
    interval_s=st.floats(1, 600),
    tick_s=st.floats(0.1, 30),
    checkpoint_s=st.floats(0, 1),
)
def test_the_overshoot_is_less_than_a_checkpoint_interval(
    rate: int, hours: float, interval_s: float, tick_s: float, checkpoint_s: float
) -> None:
    """A run that is asked to stop writes a checkpoint, which takes a part of the interval, and ends; a tick is shorter than an interval."""
    tick_s, checkpoint_s = min(tick_s, interval_s / 2), checkpoint_s * interval_s / 2.5
    limit = int(rate * hours)  # spent within the year, so the period does not end first
    budget, began_s, now_s = Budget(limit, "USD", "year"), NOON, NOON
    while not must_stop(budget, [Spending(began_s, None, rate)], now_s):
        now_s += max(tick_s, (limit * 3600 / rate - (now_s - began_s)) // tick_s * tick_s)  # nothing happens in between
    ended_s = now_s + checkpoint_s
    spent = spent_micros(budget, [Spending(began_s, ended_s, rate)], ended_s)
    assert spent - limit <= rate * interval_s / 3600 + 2
