"""The rules pass: an offer with its cost goes in, the same with every reason why it may not be chosen comes out. Pure.

`without` leaves rules out, which is how the shadow price of a rule is found: what the same choice would cost if it did not hold.
Does not know: what an offer costs (`cluster.offers`), what was spent before (`policy.budget`) or who asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from bedplate.core.clock import human_duration
from bedplate.core.money import money
from bedplate.core.pool import Asked, Judged
from bedplate.core.spec import Policies
from bedplate.policy.residency import Refusal, outside


def judge(
    asked: Asked, priced: Iterable[Judged], policies: Policies, left_micros: int | None = None, without: Collection[str] = ()
) -> tuple[Judged, ...]:
    """Each offer with the refusals of all rules but `without` added. `left_micros` is what the budget still has; None: no budget."""
    judged = []
    for each in priced:
        refused = [
            *each.refused,
            *_places(asked, each, policies),
            *_kinds(asked, each, policies),
            *_limits(asked, each, policies, left_micros),
        ]
        judged.append(replace(each, refused=tuple(refusal for refusal in refused if refusal[0] not in without)))
    return tuple(judged)


def _places(asked: Asked, each: Judged, policies: Policies) -> Iterator[Refusal]:
    yield from outside(asked.labels, each.offer.home, policies.residency, each.offer.pool)
    for store, home in asked.stores:
        yield from outside(asked.labels, home, policies.residency, f"its store {store}")


def _kinds(asked: Asked, each: Judged, policies: Policies) -> Iterator[Refusal]:
    offer = each.offer
    if policies.pools and offer.pool not in policies.pools:
        yield "pools", f"allowed pools are {_listed(policies.pools)}"
    if policies.images and not (offer.image and _allowed(offer.image, policies.images)):
        yield "images", f"image {offer.image or 'unknown'} is not allowed"
    if policies.accelerators and asked.devices and not _allowed(offer.device_model, policies.accelerators):
        yield "accelerators", f"accelerator {offer.device_model or 'unknown'} is not allowed"


def _limits(asked: Asked, each: Judged, policies: Policies, left_micros: int | None) -> Iterator[Refusal]:
    if asked.deadline_s is not None and each.ends_s is None:
        yield "deadline", "how long it takes is not known, so no deadline is safe"
    elif asked.deadline_s is not None and each.ends_s is not None and each.ends_s > asked.deadline_s:
        yield "deadline", f"done after {human_duration(each.ends_s)}, asked for within {human_duration(asked.deadline_s)}"
    if policies.carbon is not None and (each.carbon_g is None or each.carbon_g > policies.carbon):
        grams = "an unknown amount" if each.carbon_g is None else f"{each.carbon_g:,.0f} g"
        yield "carbon", f"{grams} of CO2, at most {policies.carbon:,.0f} g"
    if left_micros is not None and (each.total_micros or 0) > max(0, left_micros):
        yield (
            "budget",
            f"costs {money(each.total_micros or 0, each.offer.currency)}, {money(max(0, left_micros), each.offer.currency)} are left",
        )
    elif left_micros is not None and left_micros <= 0 and each.offer.hour_micros > 0:
        yield "budget", "the budget is spent"


def _allowed(name: str, allowed: Sequence[str]) -> bool:
    return any(each.casefold() in name.casefold() for each in allowed)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
