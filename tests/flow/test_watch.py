"""Watching: the progress of live runs, from the ledger and their journals."""

from __future__ import annotations

from bedplate.flow.watch import Progress, Watch
from flow.world import Told, World


def told(*entries: tuple[float, str, dict[str, object]]) -> Told:
    return [*entries, (1e6, "ended", {})]


def test_progress_and_the_newest_metrics_are_shown_until_the_run_ends(world: World) -> None:
    world.scripts["make"] = lambda _: told(
        (0.1, "progress", {"done": 3, "total": 9, "unit": "rows", "note": ""}),
        (0.2, "metric", {"step": 1, "values": {"loss": 2.0, "accuracy": 0.123456}}),
    )
    world.ask("run", "make")
    watch = Watch(world.workspace)
    with world.loop() as loop:
        loop.tick()
        assert watch.progress() == [Progress("make-1", "make", "running")], "what it is now, also when it has said nothing yet"
        world.tick(loop, lambda: any(moment.note for moment in watch.progress()))
        assert watch.progress() == [Progress("make-1", "make", "running", 3, 9, "rows", "accuracy 0.1235  loss 2")]
        assert watch.progress() == watch.progress(), "looking again changes nothing"
        world.sim.cancel(world.run("make").attempts[0].handle, "stop")
        world.tick(loop, lambda: world.run("make").state.token == 2)
        assert [moment.run for moment in watch.progress()] == ["make-1"], "an attempt that ended unasked is followed by another"


def test_only_runs_of_the_launch_are_shown_and_no_endpoint_that_answers(world: World) -> None:
    world.drive("up")
    world.scripts["other"] = lambda _: told()
    world.scripts["make"] = lambda _: told()
    first = world.ask("run", "other", force=("other",))
    second = world.ask("run", "make", force=("make",))
    watch = Watch(world.workspace)
    with world.loop() as loop:
        world.tick(loop, lambda: len(watch.progress()) == 2)
    assert [moment.step for moment in watch.progress(first)] == ["other"]
    assert [moment.step for moment in watch.progress(second)] == ["make"]
    assert {moment.step for moment in watch.progress()} == {"other", "make"}
