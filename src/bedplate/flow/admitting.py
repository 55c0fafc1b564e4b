"""Admission: the table of offers of each step that would run, what a rule costs, and which steps may not run where they were placed.

Does not know: how offers are weighed (`cluster.offers`) or judged (`policy.rules`), or where pools are declared (`pooling`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bedplate.cluster.offers import Decision
from bedplate.core.errors import Unavailable
from bedplate.core.plan import Plan, PlannedStep
from bedplate.core.pool import Inventory
from bedplate.flow.billing import budget_left
from bedplate.flow.lower import lower
from bedplate.flow.pooling import decide, labels_of, market_of, offers
from bedplate.flow.tables import LAUNCHERS
from bedplate.flow.workspace import Workspace


@dataclass(frozen=True)
class Shadow:
    """What a step would cost less without some rules, in micro-units; None where either way it may run nowhere or its length is unknown."""

    step: str
    saved_micros: int | None
    chosen: str
    chosen_without: str


def tables(workspace: Workspace, plan: Plan, machine: Inventory, without: Collection[str] = ()) -> dict[str, Decision]:
    """The table of offers of every step that would run now, under the project's rules but for those in `without`."""
    market = market_of(workspace)
    found = offers(market, machine, workspace.clock.now())
    labels = labels_of(workspace.project.spec, lower(workspace.project.spec))
    left = budget_left(workspace, market)
    wanted = [planned for planned in plan.steps if planned.verdict != "fresh"]
    return {each.step.name: decide(workspace, each, labels[each.step.name], market, found, left, without) for each in wanted}


def shadows(with_rules: Mapping[str, Decision], without: Mapping[str, Decision]) -> list[Shadow]:
    """The shadow price of the rules that `without` leaves out, for each step whose place they change."""
    result = []
    for step, decision in with_rules.items():
        bound, free = decision.chosen, without[step].chosen
        costs = [None if each is None else each.total_micros for each in (bound, free)]
        saved = None if costs[0] is None or costs[1] is None else costs[0] - costs[1]
        names = [f"{each.offer.pool} ({each.offer.terms})" if each else "nowhere" for each in (bound, free)]
        if names[0] != names[1] or saved:
            result.append(Shadow(step, saved, names[0], names[1]))
    return result


def admit(workspace: Workspace, planned: PlannedStep, plan: Plan, machine: Inventory) -> None:
    """Raises Unavailable where no offer is allowed, or where the pool that a step goes to may not have it or has no engine here."""
    assert planned.placement is not None
    one = Plan(plan.project, plan.targets, (planned,))
    decision, name = tables(workspace, one, machine)[planned.step.name], planned.step.name
    pool = planned.placement.pool
    if decision.chosen is None:
        why = "; ".join(f"{each.offer.pool} ({each.offer.terms}): {word}" for each, word in decision.rejected)
        raise Unavailable(f"step {name!r} may run nowhere: {why}", fix="see `bedplate plan`; mend `policies`, or pools.yaml")
    if pool not in {each.offer.pool for each in (decision.chosen, *decision.failover)}:
        why = next(word for each, word in decision.rejected if each.offer.pool == pool and each.refused)
        going = decision.chosen.offer
        there = "" if going.engine in LAUNCHERS else f", and the engine {going.engine} of pool {going.pool!r}, which may, is not there yet"
        raise Unavailable(f"step {name!r} may not run in pool {pool!r}: {why}{there}", fix="see `bedplate plan`")
    if planned.placement.engine not in LAUNCHERS:
        fix = f"engines here: {', '.join(sorted(LAUNCHERS))}; ask for what this machine has"
        raise Unavailable(f"step {name!r} fits only pool {pool!r}, and its engine {planned.placement.engine} is not there yet", fix=fix)
