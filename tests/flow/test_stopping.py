"""Bringing a project down, with another process hosting the loop and without."""

from __future__ import annotations

from bedplate.flow.stopping import SERVER, bring_down, server_stop_requested
from bedplate.flow.workspace import open_workspace
from flow.world import World


def test_down_stops_endpoints_and_runs_and_ends_open_launches(world: World) -> None:
    world.drive("up")
    world.scripts["other"] = lambda _: [(1e6, "ended", {})]
    launch = world.ask("run", "other", force=("other",))
    with world.loop() as loop, open_workspace(world.folder, clock=world.clock) as other:
        world.tick(loop, lambda: world.run("other").state.live)
        since = other.refresh().seq
        assert bring_down(other, lambda _: loop.tick()) == ["prices-1", "other-2"]
        assert (world.run("prices").status, world.run("other").status) == ("stopped", "stopped")
        assert (world.launch(launch).status, world.launch(launch).message) == ("stopped", "brought down")
        assert server_stop_requested(other, since), "the process that hosts the loop is asked to end"
        assert not server_stop_requested(other, other.refresh().seq), "once"


def test_down_with_nothing_alive_is_harmless_and_asks_no_server(world: World) -> None:
    world.drive("run", "make")
    before = world.workspace.ledger.head()
    assert bring_down(world.workspace, lambda _: None) == []
    assert world.workspace.ledger.head() == before
    assert not any(event.subject == SERVER for event in world.events("stop.requested"))


def test_after_down_up_serves_again(world: World) -> None:
    world.drive("up")
    with world.loop() as loop, open_workspace(world.folder, clock=world.clock) as other:
        bring_down(other, lambda _: loop.tick())
    again = world.drive("up")
    assert world.ran(again.id) == ["prices"]
    assert world.run("prices").made["why"] == "not serving"


def test_a_server_ends_only_when_nothing_lives_any_more(world: World) -> None:
    world.drive("up")
    with world.loop() as loop, open_workspace(world.folder, clock=world.clock) as other:
        asked: list[bool] = []

        def observe(_: object) -> None:
            asked.append(server_stop_requested(other, 0))
            loop.tick()

        bring_down(other, observe)
        assert not any(asked) and server_stop_requested(other, 0)
