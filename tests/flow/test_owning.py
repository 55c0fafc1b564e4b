"""Rent or buy, from what was used."""

from __future__ import annotations

import pytest

from bedplate.core.errors import NotFound
from bedplate.core.money import micros
from bedplate.flow.owning import comparisons
from flow.world import SHOP, World

POOLS = """\
pools:
  colo: {engine: local, capacity: {cores: 0.4, memory_gb: 8}, egress_gb: 1000000, price: {on_demand: 2, source: contract, at: 2026-01-01}}
  server:
    engine: ssh
    hosts: [a]
    capacity: {cores: 4}
    own: {capital: 3652.5, years: 4.166667, kwh_price: 0.5, source: offer, at: 2026-01-01}
    watts: 1000
"""


def test_a_pool_of_one_s_own_is_held_against_each_that_is_rented(world: World) -> None:
    (world.folder / "pools.yaml").write_text(POOLS)
    world.declare(SHOP)
    world.scripts["other"] = lambda attempt: [*world.usual(attempt)[:-1], (100.0, "ended", {"status": "succeeded"})]
    world.drive("run", "other")
    (found,) = comparisons(world.workspace)
    assert (found.own, found.rented) == ("server", "colo")
    assert found.verdict.used == pytest.approx(0.5, abs=0.02), "half of the cores for all the time"
    assert found.verdict.break_even == pytest.approx(0.1 / 1.5, rel=0.01), "0.1 an hour of its life, 1.5 saved by an hour of use"
    assert found.verdict.rent_micros > found.verdict.own_micros
    stored = sum(path.stat().st_size for path in world.workspace.state.rglob("*") if path.is_file())
    assert found.leaving_micros == pytest.approx(stored / 1e9 * micros(1_000_000), rel=0.2)


@pytest.mark.parametrize("kept", [[], ["colo"], ["server"]])
def test_without_one_of_each_there_is_nothing_to_compare(world: World, kept: list[str]) -> None:
    lines = POOLS.splitlines(keepends=True)
    parts = {"colo": lines[1], "server": "".join(lines[2:])}
    (world.folder / "pools.yaml").write_text("pools:\n" + "".join(parts[name] for name in kept) if kept else "pools: {}\n")
    world.declare(SHOP)
    with pytest.raises(NotFound, match="declare one pool with `own` and one with `price`"):
        comparisons(world.workspace)
