"""Approvals: a version waits for people, each says so once and with a reason, and the last word moves the alias."""

from __future__ import annotations

from typing import Any

import pytest

from bedplate.core.attempt import Attempt
from bedplate.core.errors import BedplateError, NotFound, Outrun
from bedplate.core.heads import signing_key
from bedplate.flow.approving import PREDICATE_TYPE, approve
from bedplate.flow.deciding import check
from bedplate.flow.moving import promote
from bedplate.flow.workspace import open_workspace
from bedplate.models.dsse import verify
from flow.world import SHOP, World, ended, evaluation

TWO = SHOP.replace('when: ["rmse <= 5"]', 'when: ["rmse <= 5"], approvals: 2')


@pytest.fixture
def waiting(world: World) -> World:
    """A project whose first version waits for two people, or whom `pending` names."""
    world.declare(TWO)
    world.pending = 2  # type: ignore[attr-defined]
    world.scripts["price"] = lambda attempt: _held(world, attempt)
    world.drive("up", "price")
    return world


def _held(world: World, attempt: Attempt) -> list[Any]:
    said = evaluation(attempt, world.rmse, False)
    decision = {"promoted": False, "checks": [], "why": "waits for 2 people to approve: rmse <= 5 holds (1 against 5)"}
    return [(0.5, "evaluation", {**said, "decision": {**decision, "pending": world.pending}}), ended()]


def as_user(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LOGNAME", name)


def test_nothing_moves_and_nothing_is_served_before_the_last_approval(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waiting.workspace.records.alias("price", "production") is None
    assert "waits for 2 people to approve" in waiting.drive("up").message
    as_user(monkeypatch, "ann")
    first = approve(waiting.workspace, "price@1", "looked at the slices")
    assert (first.moved, first.people, first.missing) == (False, ("ann",), "1 more person")
    assert waiting.workspace.records.alias("price", "production") is None
    as_user(monkeypatch, "bob")
    second = approve(waiting.workspace, "price@1", "and at the costs")
    assert second.moved and second.people == ("ann", "bob")
    assert waiting.workspace.records.alias("price", "production") == 1
    assert waiting.drive("up").status == "done", "and now it is served"


def test_the_move_is_the_gates_decision_with_the_people_signed(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ann", "bob"):
        as_user(monkeypatch, name)
        approve(waiting.workspace, "price@1", f"{name} is content")
    [move] = waiting.events("alias.moved")
    key = signing_key(waiting.workspace.settings.home).public_key()
    said = verify(move.payload["decision"]["envelope"], key)["predicate"]
    assert said["verdict"] == "promoted" and said["decidedBy"] == "gate" and said["metrics"] == {"rmse": 1.0}
    assert said["approvals"] == [{"by": "ann", "reason": "ann is content"}, {"by": "bob", "reason": "bob is content"}]
    assert said["why"] == "promoted: rmse <= 5 holds (1 against 5); approved by ann, bob"
    assert check(waiting.workspace, waiting.workspace.records.version("price@1")).holds
    for given in waiting.events("approval.given"):
        alone = verify(given.payload["envelope"], key)
        assert alone["predicateType"] == PREDICATE_TYPE and alone["predicate"]["by"] == given.payload["by"]


def test_one_person_counts_once(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, "ann")
    approve(waiting.workspace, "price@1", "fine")
    with pytest.raises(BedplateError, match=r"you approved it already \(got 'ann'\). Fix: still missing: 1 more person"):
        approve(waiting.workspace, "price@1", "fine again")
    assert len(waiting.events("approval.given")) == 1


def test_named_people_must_be_those(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.pending = ["ann", "eve"]  # type: ignore[attr-defined]
    world.scripts["price"] = lambda attempt: _held(world, attempt)
    world.drive("up", "price")
    as_user(monkeypatch, "bob")
    with pytest.raises(BedplateError, match=r"your approval is not asked for \(got 'bob'\). Fix: ask ann, eve"):
        approve(world.workspace, "price@1", "me too")
    as_user(monkeypatch, "eve")
    assert approve(world.workspace, "price@1", "yes").missing == "ann"
    as_user(monkeypatch, "ann")
    assert approve(world.workspace, "price@1", "yes").moved


@pytest.mark.parametrize(("ref", "reason", "message"), [("price@1", " ", "needs a reason"), ("price@9", "x", "no such version")])
def test_what_makes_no_sense_is_refused(waiting: World, ref: str, reason: str, message: str) -> None:
    with pytest.raises((BedplateError, NotFound), match=message):
        approve(waiting.workspace, ref, reason)
    assert waiting.events("approval.given") == []


def test_a_version_that_does_not_wait_is_not_approved(world: World) -> None:
    world.drive("up", "price")
    with pytest.raises(BedplateError, match=r"no decision waits for approval \(got 'promoted: rmse <= 5'\)"):
        approve(world.workspace, "price@1", "fine")


def test_an_approval_of_what_was_compared_with_another_production_does_not_count(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.contents["fit"] = "2"
    waiting.declare(TWO.replace("lr: 0.1", "lr: 0.2"))
    waiting.drive("up", "price")
    promote(waiting.workspace, "price@1", "in a hurry")
    as_user(monkeypatch, "ann")
    with pytest.raises(BedplateError, match=r"production moved since the gate compared .*--force price"):
        approve(waiting.workspace, "price@2", "fine")


def test_two_people_at_the_same_moment_do_not_both_think_they_were_the_last(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_workspace(waiting.folder, clock=waiting.clock) as other:
        as_user(monkeypatch, "ann")
        approve(other, "price@1", "fine")
    as_user(monkeypatch, "bob")
    with pytest.raises(Outrun):
        approve(waiting.workspace, "price@1", "fine")  # it was looked at before ann wrote
    waiting.workspace.refresh()
    assert approve(waiting.workspace, "price@1", "fine").moved
    assert [event.payload["by"] for event in waiting.events("approval.given")] == ["ann", "bob"]
    assert len(waiting.events("alias.moved")) == 1
