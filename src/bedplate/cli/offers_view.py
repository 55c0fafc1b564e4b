"""The table of offers below a plan, and the shadow price of a rule, for people.

Does not know: how a place is chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from bedplate.cli.command import table
from bedplate.cluster.offers import Decision
from bedplate.core.clock import human_duration
from bedplate.core.money import money
from bedplate.core.pool import Judged
from bedplate.flow.admitting import Shadow

HEADER = ("pool", "terms", "machines", "cost", "starts in", "ends in", "g CO2", "why")


def offers_text(decisions: Mapping[str, Decision]) -> str:
    """A table for every step."""
    return "\n\n".join(
        f"{step}: where it may run\n{table(HEADER, [_row(each, word) for each, word in decision.shown])}"
        for step, decision in decisions.items()
    )


def _row(each: Judged, why: str) -> tuple[str, ...]:
    offer = each.offer
    cost = "unknown" if each.total_micros is None else money(each.total_micros, offer.currency)
    ends = "unknown" if each.ends_s is None else human_duration(each.ends_s)
    grams = "unknown" if each.carbon_g is None else f"{each.carbon_g:,.0f}"
    return offer.pool, offer.terms, str(each.machines), cost, human_duration(each.starts_s), ends, grams, why


def shadows_text(found: Sequence[Shadow], rules: Collection[str], currency: str) -> str:
    """What the rules cost, a line a step."""
    named = " and ".join(rules)
    if not found:
        return f"without {named}: every step would run where it does now, at the same cost"
    lines = []
    for each in found:
        saved = "by an amount that is not known" if each.saved_micros is None else f"and cost {money(each.saved_micros, currency)} less"
        lines.append(f"without {named}: {each.step} would run in {each.chosen_without} instead of {each.chosen}, {saved}")
    return "\n".join(lines)
