"""Pools as placement sees them: this machine, what is declared, whose law each is under, and the table of offers for a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.core.pool import Inventory
from bedplate.flow.facts import gather, is_ruled
from bedplate.flow.lower import lower
from bedplate.flow.planner import plan
from bedplate.flow.pooling import asked_of, decide, labels_of, market_of, offers, pools_of, summary
from flow.world import SHOP, START_S, World

POOLS = """\
stores:
  file://: {jurisdiction: DE, operator: Shop, operator_home: DE}
  s3://eu: {jurisdiction: DE, operator: Hoster, operator_home: DE}
pools:
  cloud:
    engine: sky
    region: us-east-1
    jurisdiction: US
    operator: Big
    operator_home: US
    capacity: {machines: 2, cores: 64, memory_gb: 256}
    price: {on_demand: 3.0, spot: 1.0, source: list, at: 2026-11-01}
  desk: {engine: local, jurisdiction: DE, operator: Shop, operator_home: DE, egress_gb: 0.09, carbon: 300, watts: 200}
"""
RULED = SHOP.replace("key: [id], known_at: at,", "key: [id], known_at: at, residency: EU,") + (
    "policies:\n  residency: {EU: {jurisdictions: [DE], operators_from: [DE]}}\n"
)
MACHINE = Inventory("here", "Linux", "cpu", 4, 8 * 10**9)


@pytest.fixture
def ruled(world: World) -> World:
    (world.folder / "pools.yaml").write_text(POOLS)
    world.declare(RULED)
    return world


def test_without_pools_and_policies_there_is_this_machine_and_nothing_to_decide(world: World) -> None:
    assert not is_ruled(world.workspace)
    (pool,) = gather(world.workspace, ()).pools
    assert (pool.name, pool.engine) == ("local", "local")


def test_this_machine_comes_first_under_its_declared_name(ruled: World) -> None:
    assert is_ruled(ruled.workspace)
    here, cloud = pools_of(ruled.workspace, MACHINE)
    assert (here.name, here.machines) == ("desk", (MACHINE,))
    assert (cloud.engine, len(cloud.machines), cloud.machines[0].cores) == ("sky", 2, 64)
    assert plan(ruled.workspace).step("fit").placement.pool == "desk"  # type: ignore[union-attr] # placed


def test_offers_have_what_the_machine_has_and_what_leaving_it_costs(ruled: World) -> None:
    own, demand, spot = offers(market_of(ruled.workspace), MACHINE, START_S)
    assert (own.pool, own.terms, own.cores, own.memory_bytes, own.egress_micros_gb) == ("desk", "own", 4, 8 * 10**9, 0)
    assert (demand.terms, spot.terms, spot.egress_micros_gb) == ("on_demand", "spot", 90_000)


def test_the_hours_of_a_grid_are_counted_from_now_on(ruled: World) -> None:
    (ruled.folder / "pools.yaml").write_text(POOLS.replace("carbon: 300", "carbon: grid.csv"))
    (ruled.folder / "grid.csv").write_text("g_kwh\n" + "".join(f"{hour}\n" for hour in range(24)))
    hour = int(START_S // 3600) % 24
    assert offers(market_of(ruled.workspace), MACHINE, START_S)[0].carbon_g_kwh[:2] == (hour, (hour + 1) % 24)


def test_a_wrong_file_is_named_with_its_line(ruled: World) -> None:
    (ruled.folder / "pools.yaml").write_text(POOLS.replace("capacity:", "capacities:"))
    with pytest.raises(SpecError, match=r"pools.yaml:\d+: pools.cloud.capacities: unknown field"):
        market_of(ruled.workspace)


def test_labels_reach_all_that_is_made_of_the_data(ruled: World) -> None:
    spec = ruled.workspace.project.spec
    labels = labels_of(spec, lower(spec))
    assert {step for step, found in labels.items() if found} == {"rows", "sums", "fit.inputs", "fit", "price", "prices.features", "prices"}


def test_what_carries_a_label_stays_inside_and_the_rest_is_free(ruled: World) -> None:
    planned, market = plan(ruled.workspace), market_of(ruled.workspace)
    found = offers(market, MACHINE, START_S)
    bound = decide(ruled.workspace, planned.step("fit"), frozenset(["EU"]), market, found)
    assert bound.chosen is not None and bound.chosen.offer.pool == "desk"
    assert bound.failover == ()
    assert all({"residency", "operator"} == {rule for rule, _ in each.refused} for each, _ in bound.rejected)
    free = decide(ruled.workspace, planned.step("fit"), frozenset(["EU"]), market, found, without=("residency", "operator"))
    assert [each.offer.pool for each in free.failover] == ["cloud", "cloud"]
    (shown,) = summary({"fit": bound}).values()
    assert shown["chosen"] == "desk"  # type: ignore[index] # plain JSON
    assert {each["pool"] for each in shown["offers"]} == {"desk", "cloud"}  # type: ignore[index] # as above


def test_a_step_asks_with_its_resources_its_deadline_its_data_and_its_stores(ruled: World) -> None:
    more = RULED.replace(
        "    params: {lr: 0.1}\n", "    params: {lr: 0.1}\n    checkpoint: {tiers: [disk, 's3://eu/shop', 's3://far/x']}\n"
    )
    ruled.declare(more + "  deadlines: {fit: 2h, rows: 1h}\n")
    (ruled.folder / "data").mkdir(exist_ok=True)
    (ruled.folder / "data" / "rows.csv").write_bytes(b"x" * 1000)
    planned, market = plan(ruled.workspace), market_of(ruled.workspace)
    asked = asked_of(ruled.workspace, planned.step("fit"), frozenset(["EU"]), market)
    assert (asked.cpus, asked.deadline_s, asked.data_in) == (0.2, 7200.0, "desk")
    assert {tier: home.jurisdiction for tier, home in asked.stores} == {"s3://eu/shop": "DE", "s3://far/x": ""}
    found = decide(ruled.workspace, planned.step("fit"), frozenset(["EU"]), market, offers(market, MACHINE, START_S))
    assert found.chosen is None, "the store that nobody knows is outside"


def test_the_project_s_own_file_counts_before_the_one_at_home(world: World, own_home: Path) -> None:
    (own_home / "pools.yaml").write_text(POOLS)
    world.declare(SHOP)
    assert market_of(world.workspace).here == "desk"
    (world.folder / "pools.yaml").write_text("pools: {laptop: {engine: local}}\n")
    assert market_of(world.workspace).here == "laptop"
