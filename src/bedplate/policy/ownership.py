"""Rent or buy: from measured use, where hardware of one's own beats renting, and what leaving a provider would cost. Pure.

Does not know: how use was measured (`policy.bill`), or whether the machines compared do the same work in the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

HOURS_OF_MONTH = 730.5


@dataclass(frozen=True)
class Machine:
    """A machine to buy: capital and an hour's power in micro-units (PUE included), and the months over which it is kept."""

    capital_micros: int
    power_hour_micros: int
    months: int


@dataclass(frozen=True)
class Verdict:
    """`used` is the part of all hours that is busy. Owning costs less from a use of `break_even` on (None: never within its life), and at
    the measured use pays itself back after `months` (None: never within its life). Both totals are over the machine's life.
    """

    used: float
    break_even: float | None
    months: int | None
    rent_micros: int
    own_micros: int


def rent_or_buy(machine: Machine, rent_hour_micros: int, used: float) -> Verdict:
    """Compare for one machine that is busy the part `used` (0 to 1) of the time. Own power is counted while it is busy."""
    hours = HOURS_OF_MONTH * machine.months
    saved_hour = rent_hour_micros - machine.power_hour_micros
    even = machine.capital_micros / (hours * saved_hour) if saved_hour > 0 else None
    monthly = HOURS_OF_MONTH * used * saved_hour
    months = next((month for month in range(1, machine.months + 1) if month * monthly >= machine.capital_micros), None)
    own = machine.capital_micros + round(hours * used * machine.power_hour_micros)
    return Verdict(used, even if even is not None and even <= 1 else None, months, round(hours * used * rent_hour_micros), own)


def leaving_micros(stored_gb: float, egress_gb_micros: int, checkpoints_lost_s: float, hour_micros: int) -> int:
    """What leaving a provider costs: the egress of what lies there, and the work since the last checkpoints, done again."""
    return round(stored_gb * egress_gb_micros + checkpoints_lost_s / 3600 * hour_micros)
