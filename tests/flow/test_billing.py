"""The bill of a project, from its ledger; and runs that a spent budget stops after a checkpoint."""

from __future__ import annotations

import getpass

import pytest

from bedplate.core.money import micros
from bedplate.flow.billing import bill_of, budget_left, share_of, stops, uses_of
from bedplate.flow.pooling import market_of
from flow.world import FOREVER_S, SHOP, World, checkpoint, ended

POOLS = """\
shared: 73.05
pools:
  colo:
    engine: local
    capacity: {cores: 4, memory_gb: 8}
    price: {on_demand: 3600, source: contract, at: 2026-01-01}
    watts: 1000
    carbon: 500
    pue: 1.2
"""
BUDGET = "policies: {budget: 100 USD per day}\n"


@pytest.fixture
def priced(world: World) -> World:
    (world.folder / "pools.yaml").write_text(POOLS)
    world.declare(SHOP)
    return world


def test_every_attempt_is_charged_its_share_of_the_machine_and_all_adds_up(priced: World) -> None:
    priced.scripts["fit"] = lambda attempt: [*priced.usual(attempt)[:-1], (100.0, "ended", {"status": "succeeded"})]
    priced.drive("run", "fit")
    kept = bill_of(priced.workspace)
    assert kept.charged_micros + kept.idle_micros + kept.shared_micros == kept.total_micros
    line = kept.by["run"]["fit-1"]
    assert line.busy_s == pytest.approx(100, abs=2)
    assert line.micros == pytest.approx(line.busy_s * micros(1) * 0.2 / 4, rel=0.01)
    assert line.kwh == pytest.approx(line.busy_s / 3600 * 1.2 * 0.2 / 4, rel=0.01)
    assert line.carbon_g == pytest.approx(line.kwh * 500)
    assert kept.by["model"]["price"].micros >= line.micros
    assert set(kept.by["user"]) == {getpass.getuser()}
    assert set(kept.by["pool"]) == {"colo"}
    assert 0 < kept.shared_micros < micros(1)


def test_work_since_the_last_checkpoint_of_an_attempt_that_failed_is_lost(priced: World) -> None:
    def script(attempt: object) -> object:
        if attempt.token == 1:  # type: ignore[attr-defined] # an attempt
            return [checkpoint(5, 60.0), (80.0, "ended", {"status": "failed", "failure": "worker_lost", "message": "killed"})]
        return priced.usual(attempt)  # type: ignore[arg-type] # as above

    priced.scripts["fit"] = script  # type: ignore[assignment] # as above
    priced.drive("run", "fit")
    first = next(use for use in uses_of(priced.workspace) if use.run == "fit-1")
    assert first.lost_ms == pytest.approx(20_000, abs=2000)
    assert bill_of(priced.workspace).by["run"]["fit-1"].lost_micros > 0


def test_without_prices_there_is_energy_and_no_money(world: World) -> None:
    world.drive("run", "fit")
    kept = bill_of(world.workspace)
    assert kept.total_micros == 0
    line = kept.by["run"]["fit-1"]
    assert line.kwh > 0 and line.estimated
    assert line.carbon_g is None
    assert budget_left(world.workspace, market_of(world.workspace)) is None


def test_a_run_holds_the_greater_of_its_cores_and_its_devices(priced: World) -> None:
    priced.drive("run", "fit")
    run = priced.run("fit-1")
    capacity = market_of(priced.workspace).file.pools["colo"].capacity
    assert capacity is not None
    assert share_of(run, capacity) == 50_000
    run.made["placement"]["accelerators"] = (0,)  # type: ignore[index] # a plain mapping
    assert share_of(run, capacity.model_copy(update={"accelerators": 2})) == 500_000


def test_a_spent_budget_stops_what_costs_money_and_says_so(priced: World) -> None:
    priced.declare(SHOP.replace("resources: {cpus: 0.2}\ndatasets", "resources: {cpus: 4}\ndatasets") + BUDGET)
    priced.scripts["fit"] = lambda _: [checkpoint(5, 10.0), (FOREVER_S, "ended", {"status": "stopped"})]
    launch = priced.ask("run", "fit")
    with priced.loop() as loop:
        priced.tick(loop, lambda: bool(priced.workspace.refresh().of_step("fit")) and priced.run("fit-1").state.live)
        assert stops(priced.workspace) == []
        priced.clock.sleep(110)  # at 1 USD a second
        assert (budget_left(priced.workspace, market_of(priced.workspace)) or 0) < 0
        priced.tick(loop, lambda: priced.launch(launch).status != "open")
    (asked,) = priced.events("stop.requested", "fit-1")
    assert asked.payload == {"how": "stop", "why": "the budget is spent: 100 USD per day"}
    assert priced.launch(launch).status == "stopped"
    again = priced.drive("run", "fit")
    assert again.status == "failed"
    assert "budget: the budget is spent" in again.message


def test_a_budget_begins_anew_with_its_period(priced: World) -> None:
    priced.declare(SHOP + BUDGET)
    priced.scripts["fit"] = lambda _: [(50.0, "output", {}), ended()][1:]
    priced.drive("run", "other")
    spent = micros(100) - (budget_left(priced.workspace, market_of(priced.workspace)) or 0)
    assert spent > 0
    priced.clock.sleep(86_400)
    assert budget_left(priced.workspace, market_of(priced.workspace)) == micros(100)
