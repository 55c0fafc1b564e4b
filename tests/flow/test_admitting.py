"""Admission: a step starts only where the rules allow it, and a rule says what it costs."""

from __future__ import annotations

import pytest

from bedplate.core.errors import Unavailable
from bedplate.core.pool import Inventory
from bedplate.flow.admitting import admit, shadows, tables
from bedplate.flow.planner import plan
from flow.test_pooling import POOLS, RULED
from flow.world import World

MACHINE = Inventory("here", "Linux", "cpu", 4, 8 * 10**9)


def declare(world: World, pools: str = POOLS, project: str = RULED) -> None:
    (world.folder / "pools.yaml").write_text(pools)
    world.declare(project)


def refused(world: World, step: str = "fit") -> str:
    planned = plan(world.workspace)
    with pytest.raises(Unavailable) as caught:
        admit(world.workspace, planned.step(step), planned, MACHINE)
    return caught.value.one_line()


def test_what_is_allowed_here_runs_here(world: World) -> None:
    declare(world)
    launch = world.drive("run", "fit")
    assert launch.status == "done"
    assert world.run("fit-1").made["placement"]["pool"] == "desk"


def test_what_may_not_be_here_is_not_started(world: World) -> None:
    declare(world, POOLS.replace("engine: local, jurisdiction: DE", "engine: local, jurisdiction: CH"))
    launch = world.drive("run", "fit")
    assert launch.status == "failed"
    assert "step 'rows' may run nowhere: " in launch.message
    assert "desk (own): residency: desk: EU data stays in DE, this is CH" in launch.message
    assert not world.workspace.refresh().of_step("rows")
    assert world.workspace.records.of_step("make"), "what carries no label ran"


def test_a_pool_whose_engine_is_not_there_is_said(world: World) -> None:
    american = "policies:\n  residency: {EU: {jurisdictions: [US]}}\n"
    declare(world, project=RULED[: RULED.index("policies:")] + american)
    said = refused(world)
    assert "may not run in pool 'desk': residency" in said
    assert "the engine sky of pool 'cloud', which may, is not there yet" in said
    declare(world, project=RULED.replace("policies:\n", "policies:\n  pools: [cloud]\n"))
    assert "may run nowhere" in refused(world)


def test_a_step_that_only_another_pool_could_hold_is_refused_with_the_engine(world: World) -> None:
    declare(world, project=RULED.replace("params: {lr: 0.1}\n    resources: {cpus: 0.2}", "resources: {cpus: 0.2, memory_gb: 200}"))
    planned = plan(world.workspace)
    assert planned.step("fit").placement.pool == "cloud"  # type: ignore[union-attr] # placed
    assert "may run nowhere" in refused(world), "its data may not leave"


def test_the_shadow_price_of_a_rule_is_what_the_choice_would_save(world: World) -> None:
    dear = POOLS.replace("engine: local, ", "engine: local, price: {on_demand: 5, source: colo, at: 2026-01-01}, ")
    declare(world, dear)
    world.drive("run", "fit")
    world.clock.sleep(1)
    world.declare(RULED.replace("lr: 0.1", "lr: 0.2"))
    planned = plan(world.workspace, ["fit"])
    rules = tables(world.workspace, planned, MACHINE)
    free = tables(world.workspace, planned, MACHINE, ("residency", "operator"))
    (shadow,) = shadows(rules, free)
    assert (shadow.step, shadow.chosen, shadow.chosen_without) == ("fit", "desk (on_demand)", "cloud (spot)")
    assert shadow.saved_micros is not None and shadow.saved_micros > 0
    assert shadows(rules, rules) == []
