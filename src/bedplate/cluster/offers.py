"""Offers weighed: what each would cost, when it would start and end, what it emits; and which of those that rules allow is chosen. Pure.

One's own machines come first, as they are paid for whether used or not: another is rented only when waiting for one's own costs more than
the rent. Spot is taken only while on demand in the same pool can still save the deadline (`spot`), so a failover never leaves what the
rules allow.
Does not know: the rules (they come as refusals from outside), files, or who asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bedplate.cluster.spot import DeadlineJob, Standing, must_hurry
from bedplate.core.clock import human_duration
from bedplate.core.money import money
from bedplate.core.pool import Asked, Judged, Offer

HOUR_S = 3600.0
TICK_S = 60.0  # how often a rented job looks at the market
ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """The whole table: what was chosen (None: nothing may be), where it would go next in order, and each rejected offer with its why."""

    asked: Asked
    chosen: Judged | None
    failover: tuple[Judged, ...]
    rejected: tuple[tuple[Judged, str], ...]

    @property
    def shown(self) -> tuple[tuple[Judged, str], ...]:
        """Every offer once with a word on it: the chosen one first."""
        first = [(self.chosen, "chosen")] if self.chosen else []
        return (*first, *self.rejected)


def price(asked: Asked, offers: Sequence[Offer]) -> tuple[Judged, ...]:
    """Every offer with its machines, cost, times and emissions; those that cannot hold the step are refused by capacity or quota."""
    return tuple(_priced(asked, offer, offers) for offer in offers)


def choose(asked: Asked, judged: Iterable[Judged], waiting_hour_micros: int = 0) -> Decision:
    """The best of the allowed offers; `waiting_hour_micros` is what an hour of waiting costs the one who asks."""
    table = sorted(judged, key=lambda each: _rank(each, waiting_hour_micros))
    allowed = [each for each in table if not each.refused]
    chosen = allowed[0] if allowed else None
    rejected = [(each, _why_not(each, chosen, waiting_hour_micros)) for each in table if each is not chosen]
    return Decision(asked, chosen, tuple(allowed[1:]), tuple(rejected))


def shifted(asked: Asked, priced: Iterable[Judged]) -> tuple[Judged, ...]:
    """The same offers, each begun at the hour in which it emits least and still meets the deadline. Without a deadline nothing moves."""
    return tuple(_shifted(asked, each) for each in priced)


def emitted_g(offer: Offer, machines: int, begins_s: float, work_s: float) -> float | None:
    """Grams of CO2 of `work_s` of work from `begins_s` on, by the hours of the grid. None where grid or watts are not known."""
    if not offer.carbon_g_kwh or not offer.watts:
        return None
    hours = offer.carbon_g_kwh
    kw = offer.watts * machines * offer.pue / 1000
    grams, at_s, end_s = 0.0, begins_s, begins_s + work_s
    if len(hours) == 1:
        return kw * work_s / HOUR_S * hours[0]
    whole_days = int(work_s // (len(hours) * HOUR_S))
    grams += whole_days * kw * sum(hours)
    at_s += whole_days * len(hours) * HOUR_S
    while at_s < end_s - ROUNDING:
        hour = int(at_s // HOUR_S)
        until_s = min(end_s, (hour + 1) * HOUR_S)
        grams += kw * (until_s - at_s) / HOUR_S * hours[hour % len(hours)]
        at_s = until_s
    return grams


def _priced(asked: Asked, offer: Offer, offers: Sequence[Offer]) -> Judged:
    held = _workers_held(asked, offer)
    machines = math.ceil(asked.workers / held) if held else 0
    egress = 0 if asked.data_in == offer.pool else math.ceil(asked.data_gb * offer.egress_micros_gb)
    refused = _too_small(asked, offer, held, machines)
    bare = Judged(offer, None, egress, machines, offer.waits_s, None, None, refused)
    if asked.work_s is None or not machines:
        return bare
    if offer.terms == "spot":
        return _on_spot(asked, bare, offers)
    cost = _cost(offer.hour_micros * machines, asked.work_s)
    grams = emitted_g(offer, machines, offer.waits_s, asked.work_s)
    return replace(bare, cost_micros=cost, ends_s=offer.waits_s + asked.work_s, carbon_g=grams)


def _on_spot(asked: Asked, bare: Judged, offers: Sequence[Offer]) -> Judged:
    """Spot is expected to be there `there / (there + away)` of the time; what it does not finish in time is rented on demand."""
    assert asked.work_s is not None
    offer, machines = bare.offer, bare.machines
    there = offer.there_s / (offer.there_s + offer.away_s) if offer.there_s else 0.5
    lost_s = asked.work_s / offer.there_s * asked.changeover_s if offer.there_s else 0.0  # an instance that goes costs a changeover
    needed_s = asked.work_s + lost_s
    all_spot = _cost(offer.hour_micros * machines, needed_s)
    grams = emitted_g(offer, machines, offer.waits_s, needed_s)
    if asked.deadline_s is None:
        return replace(bare, cost_micros=all_spot, ends_s=offer.waits_s + needed_s / there, carbon_g=grams)
    job = DeadlineJob(asked.work_s, asked.deadline_s - offer.waits_s, asked.changeover_s)
    saviour = next((each for each in offers if each.pool == offer.pool and each.terms == "on_demand"), None)
    if saviour is None or saviour.machines < machines:
        why = ("deadline", "there is nothing on demand beside it that could save the deadline")
        return replace(bare, cost_micros=all_spot, carbon_g=grams, ends_s=offer.waits_s + needed_s / there, refused=(*bare.refused, why))
    if must_hurry(job, Standing(0.0, 0.0, "nothing", spot_available=True), TICK_S):
        why = ("deadline", f"no time to lose an instance in: on demand alone takes {human_duration(asked.work_s)}")
        return replace(bare, cost_micros=all_spot, carbon_g=grams, ends_s=offer.waits_s + needed_s, refused=(*bare.refused, why))
    spare_s = job.deadline_s - 2 * job.changeover_s
    if there * spare_s >= needed_s:
        return replace(bare, cost_micros=all_spot, ends_s=offer.waits_s + needed_s / there, carbon_g=grams)
    spot_s = min(needed_s, there * max(0.0, spare_s - asked.work_s) / (1 - there)) if there < 1 else needed_s
    rest_s = max(0.0, asked.work_s - spot_s)
    cost = _cost(offer.hour_micros * machines, spot_s) + _cost(saviour.hour_micros * machines, rest_s)
    return replace(bare, cost_micros=cost, ends_s=offer.waits_s + spare_s, carbon_g=grams)


def _workers_held(asked: Asked, offer: Offer) -> int:
    """Workers that one machine of the offer can hold; one worker may have a machine with fewer cores than it asks for to itself."""
    held = max(1, int((offer.cores + ROUNDING) / asked.cpus)) if offer.engine == "local" else int((offer.cores + ROUNDING) / asked.cpus)
    if asked.memory_bytes:
        held = min(held, offer.memory_bytes // asked.memory_bytes)
    if asked.devices:
        fitting = offer.devices if asked.device_type.casefold() in offer.device_model.casefold() else 0
        held = min(held, fitting // asked.devices)
    return min(held, asked.workers)


def _too_small(asked: Asked, offer: Offer, held: int, machines: int) -> tuple[tuple[str, str], ...]:
    if not held:
        need = f"{asked.cpus:g} cores, {asked.memory_bytes / 1e9:g} GB"
        need += f", {asked.devices} {asked.device_type or 'accelerators'}" if asked.devices else ""
        return (("capacity", f"no machine there holds a worker of {need}"),)
    if machines > offer.machines:
        return (("quota", f"needs {machines} machines, {offer.machines} may be had"),)
    return ()


def _cost(hour_micros: int, work_s: float) -> int:
    """Rounded up to the micro-unit. The time is taken as whole milliseconds, so that equal work costs the same everywhere."""
    return -(-hour_micros * math.ceil(work_s * 1000) // 3_600_000)


def _weight(each: Judged, waiting_hour_micros: int) -> float:
    spent = each.total_micros if each.total_micros is not None else each.offer.hour_micros * max(1, each.machines) + each.egress_micros
    if each.offer.terms == "own":
        spent = each.egress_micros
    return spent + each.starts_s / HOUR_S * waiting_hour_micros


def _rank(each: Judged, waiting_hour_micros: int) -> tuple[object, ...]:
    ends_s = math.inf if each.ends_s is None else each.ends_s
    return (bool(each.refused), _weight(each, waiting_hour_micros), each.machines, ends_s, each.offer.pool, each.offer.terms)


def _why_not(each: Judged, chosen: Judged | None, waiting_hour_micros: int) -> str:
    if each.refused:
        return "; ".join(f"{rule}: {why}" for rule, why in each.refused)
    assert chosen is not None
    more = round(_weight(each, waiting_hour_micros) - _weight(chosen, waiting_hour_micros))
    if more > 0:
        return f"{money(more, each.offer.currency)} dearer" + (", waiting included" if waiting_hour_micros else "")
    return "no cheaper, and needs more machines or time" if each.machines >= chosen.machines else "no cheaper"


def _shifted(asked: Asked, each: Judged) -> Judged:
    if (
        asked.deadline_s is None
        or asked.work_s is None
        or each.ends_s is None
        or len(each.offer.carbon_g_kwh) < 2
        or each.offer.terms == "spot"
    ):
        return each
    latest_s = asked.deadline_s - asked.work_s
    starts = [each.starts_s, *(hour * HOUR_S for hour in range(int(each.starts_s // HOUR_S) + 1, int(latest_s // HOUR_S) + 1))]
    day = starts[: len(each.offer.carbon_g_kwh) + 1]  # the grid's hours repeat
    grams = {start_s: emitted_g(each.offer, each.machines, start_s, asked.work_s) for start_s in day if start_s <= latest_s}
    known = {start_s: value for start_s, value in grams.items() if value is not None}
    if not known:
        return each
    best_s = min(known, key=lambda start_s: (round(known[start_s], 6), start_s))
    return replace(each, starts_s=best_s, ends_s=best_s + asked.work_s, carbon_g=known[best_s])
