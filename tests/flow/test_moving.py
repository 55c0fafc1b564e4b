"""Decisions by hand: an alias moved, a result accepted; with a reason or not at all."""

from __future__ import annotations

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow.moving import accept, promote
from bedplate.flow.planner import plan
from flow.world import SHOP, World


def two_models(world: World) -> None:
    """Version 1 in production, version 2 held by the gate."""
    world.drive("up")
    world.contents["fit"], world.rmse = "2", 9.0
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    world.drive("up")
    assert world.workspace.records.alias("price", "production") == 1


def test_a_version_that_the_gate_held_is_promoted_by_hand_and_then_served(world: World) -> None:
    two_models(world)
    assert promote(world.workspace, "price@2", "the gate is too strict").ref == "price@2"
    move = world.workspace.records.aliases[("price", "production")][-1]
    assert (move.version, move.decision["override"], move.decision["why"]) == (2, True, "the gate is too strict")
    assert plan(world.workspace).step("prices").why == "price changed since prices-1"
    again = world.drive("up")
    assert world.ran(again.id) == ["price", "prices"] or world.ran(again.id) == ["prices"]
    assert world.workspace.records.version(world.run("prices").made["inputs"]["price"]).number == 2


def test_promoting_an_older_version_rolls_back(world: World) -> None:
    two_models(world)
    promote(world.workspace, "price@2", "try it")
    promote(world.workspace, "price@1", "it was worse")
    assert [move.version for move in world.workspace.records.aliases[("price", "production")]] == [1, 2, 1]
    assert world.workspace.records.version("price@production").number == 1


@pytest.mark.parametrize(
    ("ref", "reason", "message"),
    [
        ("price@9", "x", "no such version"),
        ("prise@1", "x", "did you mean 'price'"),
        ("rows@1", "x", "the project declares no such model"),
        ("price@1", "  ", "a decision needs a reason"),
    ],
)
def test_a_promotion_that_makes_no_sense_moves_nothing(world: World, ref: str, reason: str, message: str) -> None:
    world.drive("up")
    head = world.workspace.ledger.head()
    with pytest.raises(BedplateError, match=message):
        promote(world.workspace, ref, reason)
    assert world.workspace.ledger.head() == head


def test_an_accepted_step_is_not_run_again_nor_what_depends_on_it(world: World) -> None:
    world.drive("up")
    world.declare(SHOP.replace("windows: [1h]", "windows: [60m]"))
    assert accept(world.workspace, "sums", "the same window in other words") == "sums-1"
    assert plan(world.workspace).step("sums").why == "accepted as made by sums-1"
    again = world.drive("up")
    assert (again.status, world.ran(again.id)) == ("done", ["prices.features"]), "the online store computes by the definition itself"
    assert world.events("step.accepted")[0].payload["reason"] == "the same window in other words"
    world.declare(SHOP.replace("windows: [1h]", "windows: [2h]"))
    assert plan(world.workspace).step("sums").verdict == "run", "only that declaration was accepted"


def test_what_was_never_made_or_waits_cannot_be_accepted(world: World) -> None:
    with pytest.raises(BedplateError, match="the step was never made"):
        accept(world.workspace, "make", "x")
    with pytest.raises(BedplateError, match=r"the step waits for steps that it needs \(got 'after make'\)"):
        accept(world.workspace, "rows", "x")
    with pytest.raises(NotFound, match="no such target"):
        accept(world.workspace, "nothing", "x")
    with pytest.raises(BedplateError, match="a decision needs a reason"):
        accept(world.workspace, "make", "")
    assert world.events("step.accepted") == []
