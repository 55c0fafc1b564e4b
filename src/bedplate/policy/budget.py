"""A budget: what a period may cost, what is left of it, and when a run must stop. Pure.

A run is asked to stop once the period's money is spent; it writes a checkpoint and ends, so what goes beyond is less than a checkpoint
interval costs.
Does not know: what was charged (`policy.bill`) or how a run is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bedplate.core.money import parse_money

Period = str  # day, month or year


@dataclass(frozen=True)
class Budget:
    """At most `limit_micros` of `currency` in each `period`, which begins in UTC."""

    limit_micros: int
    currency: str
    period: Period

    def began_s(self, now_s: float) -> float:
        """When the period that holds `now_s` began, in seconds since the epoch."""
        now = datetime.fromtimestamp(now_s, tz=UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        first = {"day": midnight, "month": midnight.replace(day=1), "year": midnight.replace(month=1, day=1)}
        return first[self.period].timestamp()


@dataclass(frozen=True)
class Spending:
    """What machines cost from `start_s` to `end_s` (None: they still do), in micro-units for an hour."""

    start_s: float
    end_s: float | None
    hour_micros: int


def parse_budget(text: str) -> Budget:
    """`20 USD per month`. Raises ValueError."""
    amount, _, period = text.partition(" per ")
    limit, currency = parse_money(amount)
    return Budget(limit, currency, period)


def spent_micros(budget: Budget, spendings: Iterable[Spending], now_s: float) -> int:
    """What was spent in the present period, up to now. Rounded up: a budget errs to the safe side."""
    began_s = budget.began_s(now_s)
    # micro-units times milliseconds are added as integers, so that the order of the spendings does not matter
    total = sum(
        each.hour_micros * max(0, round((min(now_s, each.end_s if each.end_s is not None else now_s) - max(began_s, each.start_s)) * 1000))
        for each in spendings
    )
    return -(-total // 3_600_000)


def must_stop(budget: Budget, spendings: Iterable[Spending], now_s: float) -> bool:
    """Whether runs that cost money are to stop now."""
    return spent_micros(budget, spendings, now_s) >= budget.limit_micros
