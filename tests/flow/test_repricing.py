"""Prices brought up to date in place: comments and order stay, and what is wrong changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.core.pools_file import read_pools
from bedplate.flow.repricing import refresh
from flow.world import SHOP, World

POOLS = """\
prices_from: prices.json  # a nightly job writes it
pools:
  cloud:
    engine: sky
    region: eu
    capacity: {machines: 2}
    price:
      on_demand: 3.0  # by the hour
      spot: 1.0
      source: "list, by hand"
      at: 2026-01-01
  edge: {engine: sky, region: us, capacity: {machines: 1}, price: {on_demand: 2, source: list, at: 2026-01-01}}  # one line
"""
NEW = {"on_demand": 2.5, "source": "feed", "at": "2026-11-20"}


def declare(world: World, prices: Any, pools: str = POOLS) -> None:
    (world.folder / "pools.yaml").write_text(pools)
    (world.folder / "prices.json").write_text(prices if isinstance(prices, str) else json.dumps(prices))
    world.declare(SHOP)


def test_only_the_values_change(world: World) -> None:
    declare(world, {"cloud": NEW, "edge": {**NEW, "on_demand": 1.75}, "unknown": NEW})
    changed = refresh(world.workspace)
    assert changed["cloud"] == "on_demand 3.0 -> 2.5, source list, by hand -> feed, at 2026-01-01 -> 2026-11-20"
    text = (world.folder / "pools.yaml").read_text()
    assert "      on_demand: 2.5  # by the hour\n      spot: 1.0\n" in text
    assert text.endswith("  # one line\n")
    pools = read_pools(world.folder / "pools.yaml").pools
    prices = {name: pool.price for name, pool in pools.items()}
    assert [(price.on_demand, price.source, price.at.isoformat()) for price in prices.values() if price] == [
        (2.5, "feed", "2026-11-20"),
        (1.75, "feed", "2026-11-20"),
    ]
    assert refresh(world.workspace) == {}


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("{", "the prices cannot be read"),
        ("[]", "no mapping of pools"),
        ({"cloud": {"on_demand": 1}}, "source"),
        ({"cloud": {**NEW, "on_demand": -1}}, "greater than or equal to 0"),
        ({"cloud": {**NEW, "at": "yesterday"}}, "at"),
    ],
)
def test_what_is_wrong_changes_nothing(world: World, prices: Any, said: str) -> None:
    declare(world, prices)
    with pytest.raises(DataError, match=said):
        refresh(world.workspace)
    assert (world.folder / "pools.yaml").read_text() == POOLS


@pytest.mark.parametrize("place", ["../prices.json", "nowhere.json", "http://example.org/prices.json"])
def test_prices_come_from_beside_the_file_or_over_https(world: World, place: str) -> None:
    declare(world, {}, POOLS.replace("prices.json", place))
    with pytest.raises(BedplateError, match="the prices cannot be read"):
        refresh(world.workspace)


def test_without_a_source_it_says_where_to_put_one(world: World) -> None:
    with pytest.raises(NotFound, match="prices_from"):
        refresh(world.workspace)
