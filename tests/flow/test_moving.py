"""Decisions by hand: an alias moved, a result accepted; with a reason or not at all."""

from __future__ import annotations

import pytest

from bedplate.core.errors import BedplateError, Busy, NotFound, Outrun
from bedplate.core.event import Draft
from bedplate.core.package import open_package
from bedplate.flow import moving
from bedplate.flow.deciding import check
from bedplate.flow.facts import location_of
from bedplate.flow.moving import accept, promote, remove, rollback, tag, trust
from bedplate.flow.planner import plan
from bedplate.flow.workspace import Workspace, open_workspace
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


def moves(world: World) -> list[int | None]:
    return [move.version for move in world.workspace.records.aliases[("price", "production")]]


def third(world: World) -> None:
    """Versions 1 to 3, of which 1 and 3 were in production."""
    two_models(world)
    world.contents["fit"], world.rmse = "3", 1.0
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.3"))
    world.drive("up")
    assert moves(world) == [1, 3]


def test_a_rollback_goes_one_version_back_at_a_time_and_is_signed(world: World) -> None:
    third(world)
    promote(world.workspace, "price@2", "try it")
    assert [version.ref for version in rollback(world.workspace, "price", "worse")] == ["price@3", "price@2"]
    assert [version.ref for version in rollback(world.workspace, "price", "worse still")] == ["price@1", "price@3"]
    assert moves(world) == [1, 3, 2, 3, 1]
    assert check(world.workspace, world.workspace.records.version("price@1")).holds
    with pytest.raises(NotFound, match=r"no version to go back to \(got 'price@1'\).*models show price"):
        rollback(world.workspace, "price", "and again")
    assert rollback(world.workspace, "price", "by number", to=2)[0].ref == "price@2"
    with pytest.raises(BedplateError, match="points there already"):
        rollback(world.workspace, "price", "x", to=2)


def test_an_endpoint_follows_a_rollback(world: World) -> None:
    third(world)
    rollback(world.workspace, "price", "worse")
    world.drive("up", "prices")
    assert world.run("prices").made["inputs"]["price"] == "price@1"


def test_a_version_that_nothing_uses_is_removed_for_good_and_says_why(world: World) -> None:
    third(world)
    version, freed = remove(world.workspace, "price@2", "trained on what we must not use")
    place = location_of(world.workspace, version)
    assert freed == 1
    with pytest.raises(NotFound, match=r"price@2 was removed by .*: trained on what we must not use"):
        open_package(place)
    assert world.workspace.records.version("price@2") == version, "the record stays"
    assert world.events("version.removed")[0].payload["reason"] == "trained on what we must not use"
    with pytest.raises(NotFound, match="price@2 was removed by"):
        promote(world.workspace, "price@2", "x")
    assert remove(world.workspace, "price@2", "twice")[1] >= 0
    assert len(world.events("version.removed")) == 1


def test_a_version_in_use_stays(world: World) -> None:
    third(world)
    rollback(world.workspace, "price", "worse")
    with pytest.raises(Busy, match=r"price@1 is in use: alias production"):
        remove(world.workspace, "price@1", "x")
    with pytest.raises(Busy, match=r"price@3 is in use: endpoint prices"):
        remove(world.workspace, "price@3", "x")
    with pytest.raises(BedplateError, match="a decision needs a reason"):
        remove(world.workspace, "price@2", " ")
    with pytest.raises(BedplateError, match="only versions of models are removed"):
        remove(world.workspace, "rows@1", "x")
    assert world.events("version.removed") == []


def test_a_removal_that_was_killed_before_the_bytes_went_is_ended_by_the_next(world: World) -> None:
    third(world)
    version = world.workspace.records.version("price@2")
    payload = {"by": "ann", "reason": "worse", "digest": version.digest}
    world.workspace.ledger.append([Draft("version.removed", "price@2", payload, key="removed/price@2")])
    world.workspace.refresh()
    assert location_of(world.workspace, version).is_file()
    assert remove(world.workspace, "price@2", "again")[1] == 1
    with pytest.raises(NotFound, match="removed by ann: worse"):
        open_package(location_of(world.workspace, version))


def test_what_was_removed_is_made_again_under_a_new_number(world: World) -> None:
    third(world)
    rollback(world.workspace, "price", "worse")
    world.drive("up", "prices")
    remove(world.workspace, "price@3", "worse")
    assert plan(world.workspace, ["fit"]).step("fit").why == "what fit-3 made is gone"
    world.drive("run", "fit")
    assert world.run("fit").outputs == ("price@4",)


class Racing:
    """Another process, that does something right after this one has decided and before it appends."""

    def __init__(self, workspace: Workspace, act: object) -> None:
        self.append = workspace.ledger.append
        self.act = act
        workspace.ledger.append = self.late  # type: ignore[method-assign] # the moment in between cannot be reached otherwise

    def late(self, *arguments: object, **named: object) -> object:
        act, self.act = self.act, None
        if callable(act):
            act()
        return self.append(*arguments, **named)  # type: ignore[arg-type] # handed on as it came


def test_an_alias_that_another_moved_meanwhile_is_not_moved(world: World) -> None:
    third(world)
    with open_workspace(world.folder, clock=world.clock) as other:
        Racing(world.workspace, lambda: promote(other, "price@2", "I was first"))
        with pytest.raises(Outrun, match=r"the alias was moved meanwhile \(got 'price@2'\)"):
            promote(world.workspace, "price@1", "so was I")
    assert moves(world) == [1, 3, 2]


def test_other_events_in_between_do_not_hinder_a_promotion(world: World) -> None:
    third(world)
    with open_workspace(world.folder, clock=world.clock) as other:
        Racing(world.workspace, lambda: tag(other, "price@1", {"seen": "yes"}))
        promote(world.workspace, "price@1", "worse")
    assert moves(world) == [1, 3, 1]


def test_a_version_that_came_into_use_meanwhile_is_not_removed(world: World) -> None:
    third(world)
    with open_workspace(world.folder, clock=world.clock) as other:
        Racing(world.workspace, lambda: promote(other, "price@2", "I need it"))
        with pytest.raises(Busy, match="price@2 is in use: alias production"):
            remove(world.workspace, "price@2", "nobody needs it")
    assert world.events("version.removed") == []


def test_tags_are_set_and_taken_away(world: World) -> None:
    world.drive("up")
    tag(world.workspace, "price@1", {"region": "west", "trial": "1"})
    tag(world.workspace, "price@production", {"trial": None})
    assert world.workspace.records.tagged["price@1"] == {"region": "west"}
    with pytest.raises(BedplateError, match="a tag needs a name without spaces"):
        tag(world.workspace, "price@1", {"a b": "c"})


def test_a_file_is_vouched_for_by_its_digest_and_with_a_reason(world: World) -> None:
    trust(world.workspace, "ab" * 32, "our own job wrote it")
    trust(world.workspace, "ab" * 32, "our own job wrote it")
    [event] = world.events("artifact.trusted")
    assert (event.subject, event.payload["reason"]) == ("ab" * 32, "our own job wrote it")
    assert set(world.workspace.records.trusted) == {"ab" * 32}
    with pytest.raises(BedplateError, match=r"named by its SHA-256.*'abc'"):
        trust(world.workspace, "abc", "x")
    with pytest.raises(BedplateError, match="a decision needs a reason"):
        trust(world.workspace, "cd" * 32, "")


def test_a_ledger_that_others_write_to_all_the_time_is_said_to_be_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    third(world)
    monkeypatch.setattr(moving, "TRIES", 0)
    with pytest.raises(Busy, match="others write to the ledger all the time"):
        promote(world.workspace, "price@1", "x")
