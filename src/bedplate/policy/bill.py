"""The bill: money, energy, CO2, idle and lost work of what ran, such that charges, idle and shared add up to the bill exactly. Pure.

A pool that is held (one's own) costs its rate from the first use to the last, used or not: what nobody used is idle. A pool that is rented
costs while something runs. All is divided by largest remainders in whole micro-units, so no cent is lost.
Does not know: the ledger (`flow.billing` reads it), prices' sources, or currencies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from bedplate.core.money import apportion

DAY_S = 86400
MS = 1000


@dataclass(frozen=True)
class Use:
    """One attempt on one pool: `share` of the pool's machines (millionths) from `start_ms` to `end_ms`; `lost_ms` had to be redone.

    `watts` are at work, PUE included; `measured_j` is what a counter said, None where there was none; `g_kwh` is the grid's.
    """

    run: str
    project: str
    user: str
    model: str
    pool: str
    start_ms: int
    end_ms: int
    share: int
    lost_ms: int = 0
    watts: float = 0.0
    measured_j: float | None = None
    g_kwh: float | None = None


@dataclass(frozen=True)
class Rate:
    """What a pool costs: micro-units for an hour of all of it, and whether it is held when nothing runs."""

    hour_micros: int
    held: bool


@dataclass
class Line:
    """The sums of one run, model, user, day…: `carbon_g` is None where a grid is not known, `estimated` where any energy is an estimate."""

    micros: int = 0
    lost_micros: int = 0
    busy_s: float = 0.0
    kwh: float = 0.0
    carbon_g: float | None = 0.0
    estimated: bool = False

    def add(self, use: Use, micros: int, part: float) -> None:
        """Add `part` of a use, which costs `micros`."""
        length_ms = use.end_ms - use.start_ms
        self.micros += micros
        self.lost_micros += micros * min(use.lost_ms, length_ms) // length_ms if length_ms else 0
        self.busy_s += length_ms * part / MS
        joules = use.watts * length_ms / MS if use.measured_j is None else use.measured_j
        self.kwh += joules * part / 3.6e6
        if use.g_kwh is None or self.carbon_g is None:
            self.carbon_g = None
        else:
            self.carbon_g += joules * part / 3.6e6 * use.g_kwh
        self.estimated = self.estimated or use.measured_j is None


@dataclass(frozen=True)
class Bill:
    """All of it. `total_micros` is `charged + idle + shared`; `by` maps run, project, model, user, day and pool to their lines."""

    total_micros: int
    charged_micros: int
    idle_micros: int
    shared_micros: int
    by: Mapping[str, Mapping[str, Line]]
    idle_by_pool: Mapping[str, int] = field(default_factory=dict)


def bill(uses: Sequence[Use], rates: Mapping[str, Rate], shared_micros: int = 0) -> Bill:
    """The bill of these uses. A pool without a rate costs nothing; its energy counts."""
    by: dict[str, dict[str, Line]] = {axis: defaultdict(Line) for axis in ("run", "project", "model", "user", "day", "pool")}
    total, idle_by_pool = 0, {}
    for pool in sorted({use.pool for use in uses}):
        mine = sorted((use for use in uses if use.pool == pool), key=lambda use: (use.start_ms, use.run))
        cost, idle, charges = _divided(mine, rates.get(pool, Rate(0, held=False)))
        total += cost
        idle_by_pool[pool] = idle
        for use, charge in zip(mine, charges, strict=True):
            _enter(by, use, charge)
    charged = total - sum(idle_by_pool.values())
    kept = {axis: dict(sorted(lines.items())) for axis, lines in by.items()}
    return Bill(total + shared_micros, charged, sum(idle_by_pool.values()), shared_micros, kept, idle_by_pool)


def _divided(uses: Sequence[Use], rate: Rate) -> tuple[int, int, list[int]]:
    """What a pool cost, how much of it is idle, and what each use is charged."""
    weights = [(use.end_ms - use.start_ms) * use.share for use in uses]
    used = sum(weights)
    whole = 1_000_000 * (max(use.end_ms for use in uses) - min(use.start_ms for use in uses)) if rate.held else used
    whole = max(whole, used)  # steps that share a machine beyond what it has do not make it dearer
    if rate.held:
        span_ms = max(use.end_ms for use in uses) - min(use.start_ms for use in uses)
        cost = -(-rate.hour_micros * span_ms // 3_600_000)
    else:
        cost = -(-rate.hour_micros * used // (3_600_000 * 1_000_000))
    *charges, idle = apportion(cost, [*weights, whole - used])
    if cost and not whole:  # uses without length: nobody is charged
        return cost, cost, charges
    return cost, idle, charges


def _enter(by: Mapping[str, dict[str, Line]], use: Use, charge: int) -> None:
    for axis in ("run", "project", "model", "user", "pool"):
        by[axis][getattr(use, axis) or "-"].add(use, charge, 1.0)
    days = _days(use)
    length_ms = max(1, use.end_ms - use.start_ms)
    for (day, part_ms), part in zip(days, apportion(charge, [max(1, ms) for _, ms in days]), strict=True):
        by["day"][day].add(use, part, part_ms / length_ms)


def _days(use: Use) -> list[tuple[str, int]]:
    """The days (UTC, as ISO dates) that a use touches, with its milliseconds in each."""
    found, at_ms = [], use.start_ms
    while True:
        day = at_ms // (DAY_S * MS)
        end_ms = min(use.end_ms, (day + 1) * DAY_S * MS)
        found.append((_date(day), end_ms - at_ms))
        if end_ms >= use.end_ms:
            return found
        at_ms = end_ms


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def lines_of(kept: Bill, axis: str) -> Iterable[tuple[str, Line]]:
    """The lines by one axis, the dearest first."""
    return sorted(kept.by[axis].items(), key=lambda item: (-item[1].micros, item[0]))
