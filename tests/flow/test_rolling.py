"""What a router's rollout does to launches, aliases and the version before: in a simulated cluster, whose router says what real ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bedplate.core.attempt import Attempt
from bedplate.flow.deciding import check
from bedplate.flow.facts import serving
from bedplate.flow.moving import promote
from bedplate.flow.planner import plan
from flow.world import SHOP, Told, World

OPEN = {
    "before": "prices-1",
    "from": "price@1",
    "to": "price@2",
    "kind": "canary",
    "step": 1,
    "share": 0.05,
    "outcome": "open",
    "why": "so",
}
LAST = {"what": "ended", "step": 2, "share": 1.0, "outcome": "done", "why": "40 requests, 0 errors"}
BACK = {"what": "ended", "share": 0.0, "outcome": "back", "why": "9 of 40 requests failed, more than 1%"}


def rolls(*stages: tuple[float, dict[str, Any]]) -> Callable[[World], Callable[[Attempt], Told]]:
    """The script of an endpoint whose second run begins a rollout before it is ready, and then comes to these stages."""

    def script(world: World) -> Callable[[Attempt], Told]:
        def told(attempt: Attempt) -> Told:
            usual = world.usual(attempt)
            if attempt.run == "prices-1":
                return usual
            later = [(at_s, "rollout", {**OPEN, **stage}) for at_s, stage in stages]
            return [(0.4, "rollout", {**OPEN, "what": "began"}), usual[0], *later, usual[1]]

        return told

    return script


def second_version(world: World, script: Callable[[World], Callable[[Attempt], Told]]) -> str:
    """Bring the first version up, and ask for the second."""
    world.scripts["prices"] = script(world)
    world.drive("up")
    world.contents["fit"] = "2"
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    return world.ask("up")


def test_the_version_before_stays_until_the_rollout_is_done_and_the_launch_lasts_as_long(world: World) -> None:
    launch = second_version(world, rolls((20.0, {"what": "stepped", "step": 2, "share": 0.5}), (40.0, LAST)))
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.events("rollout.stepped")))
        assert (world.run("prices-1").status, world.run("prices-2").status) == ("ready", "ready")
        assert (world.run("prices-1").state.stopping, world.launch(launch).status) == ("no", "open")
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert (world.launch(launch).status, world.run("prices-1").status, world.run("prices-2").status) == ("done", "stopped", "ready")
    told = [event.payload for event in world.workspace.ledger.read() if event.kind.startswith("rollout.")]
    assert [(one["step"], one["share"], one["outcome"]) for one in told] == [(1, 0.05, "open"), (2, 0.5, "open"), (2, 1.0, "done")]
    assert told[-1]["why"] == "40 requests, 0 errors"
    ended = world.events("rollout.ended")[0].seq
    assert ended < world.events("stop.requested", "prices-1")[0].seq


def test_a_version_that_went_back_loses_its_alias_by_a_signed_decision_and_is_stopped(world: World) -> None:
    launch = second_version(world, rolls((20.0, BACK)))
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open")
    why = "9 of 40 requests failed, more than 1%"
    assert (world.launch(launch).status, world.launch(launch).message) == ("failed", f"prices-2 was taken back: {why}")
    assert (world.run("prices-1").status, world.run("prices-2").status) == ("ready", "stopped")
    moves = world.workspace.records.aliases[("price", "production")]
    assert [move.version for move in moves] == [1, 2, 1]
    assert moves[-1].decision["why"] == "the rollout of prices went back: 9 of 40 requests failed, more than 1%"
    assert check(world.workspace, world.workspace.records.version("price@1")).holds
    assert [run.id for run in serving(world.workspace, "prices")] == ["prices-1"]
    again = world.drive("up")
    assert (again.status, world.ran(again.id)) == ("done", []), "what went back is not promoted again by itself"


def test_code_that_went_back_is_not_tried_again_in_the_same_launch(world: World) -> None:
    world.scripts["prices"] = rolls((20.0, {**BACK, "to": "price@1"}))(world)
    world.drive("up")
    (world.folder / "fit.py").write_text("# answers otherwise\n" + (world.folder / "fit.py").read_text())
    launch = world.drive("up")
    assert launch.status == "failed"
    assert [run.id for run in world.workspace.records.of_step("prices")] == ["prices-1", "prices-2"]
    assert (world.run("prices-1").status, world.run("prices-2").status) == ("ready", "stopped")


def test_an_alias_that_somebody_moved_meanwhile_is_left_alone(world: World) -> None:
    second_version(world, rolls((20.0, BACK)))
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.events("rollout.began")))
        promote(world.workspace, "price@1", "by hand")
        moved = len(world.events("alias.moved"))
        world.tick(loop, lambda: bool(world.events("rollout.ended")))
    assert len(world.events("alias.moved")) == moved
    assert world.workspace.records.alias("price", "production") == 1


def test_a_loop_that_was_killed_after_the_alias_went_back_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = second_version(world, rolls((20.0, BACK)))
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.events("rollout.began")))
        append = loop._append

        def killed(*drafts: Any, **after: Any) -> None:
            if any(draft.kind == "rollout.ended" for draft in drafts):
                raise KeyboardInterrupt
            append(*drafts, **after)

        monkeypatch.setattr(loop, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            world.tick(loop, lambda: False)
    assert [move.version for move in world.workspace.refresh().aliases[("price", "production")]] == [1, 2, 1]
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert [move.version for move in world.workspace.records.aliases[("price", "production")]] == [1, 2, 1], "moved once"
    assert len(world.events("rollout.ended")) == 1
    assert plan(world.workspace).step("prices").made_by == "prices-1"
