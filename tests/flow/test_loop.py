"""The loop over a simulated cluster: retries, fencing, adoption, launches that share, fail and stop; and twice over real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bedplate.cluster.engines.local import LocalLauncher
from bedplate.cluster.engines.sim import Faults
from bedplate.core.attempt import Attempt, boot_id, own_identity
from bedplate.core.errors import Fenced
from bedplate.core.heads import audit
from bedplate.core.journal import JournalWriter
from bedplate.core.record import RunRecord
from bedplate.flow import loop as loop_module
from bedplate.flow.loop import LEASE, LEASE_S, Loop, hosted
from bedplate.flow.moving import promote
from bedplate.flow.stopping import bring_down
from bedplate.flow.workspace import Workspace, open_workspace, request_launch, request_stop
from flow.world import SHOP, STEPS, HereLauncher, Told, World, checkpoint, ended


def lost(_attempt: Attempt) -> Told:
    """Falls silent after half a second."""
    return [(0.5, "heartbeat", {})]


def fails(_attempt: Attempt) -> Told:
    return [ended("failed", "user_error", "no such column")]


def endless(_attempt: Attempt) -> Told:
    return [(1e6, "ended", {"status": "succeeded"})]


# -- a launch -------------------------------------------------------------------------------------------------------------------------


def test_up_runs_every_step_after_what_it_needs_and_once(world: World) -> None:
    launch = world.drive("up")
    assert (launch.status, launch.message) == ("done", "")
    assert sorted(world.ran(launch.id)) == sorted(STEPS)
    finished = {event.subject.rpartition("-")[0]: event.seq for event in world.events("run.finished")}
    begun = {event.payload["step"]: event.seq for event in world.events("run.created")}
    assert finished["make"] < begun["rows"] and finished["rows"] < begun["sums"] and finished["price"] < begun["prices"]
    assert world.run("prices").status == "ready"
    assert world.workspace.records.alias("price", "production") == 1


def test_up_again_runs_nothing(world: World) -> None:
    world.drive("up")
    again = world.drive("up")
    assert (again.status, world.ran(again.id)) == ("done", [])


def test_the_chain_of_a_launch_is_whole_and_its_end_is_signed(world: World) -> None:
    world.drive("run", "make")
    found = audit(world.workspace.ledger, world.workspace.settings.home)
    assert found.signed_through == world.workspace.ledger.head().seq


def test_a_feature_that_comes_out_as_before_is_not_trained_on_again(world: World) -> None:
    world.drive("up")
    world.declare(SHOP.replace("windows: [1h]", "windows: [2h]"))
    again = world.drive("up")
    assert world.ran(again.id) == ["sums", "prices.features"], "the online store computes by the definition itself"
    assert world.run("sums").outputs == ("sums@1",), "equal content is the same version"


def test_a_feature_that_comes_out_otherwise_runs_what_depends_on_it_and_nothing_else(world: World) -> None:
    world.drive("up")
    world.declare(SHOP.replace("windows: [1h]", "windows: [2h]"))
    world.contents.update({"sums": "2", "fit.inputs": "2", "fit": "2", "prices.features": "2"})
    again = world.drive("up")
    assert sorted(world.ran(again.id)) == sorted(["sums", "fit.inputs", "fit", "price", "prices.features", "prices"])
    assert world.workspace.records.alias("price", "production") == 2


def test_force_runs_a_step_that_is_up_to_date_once(world: World) -> None:
    world.drive("up")
    again = world.drive("run", "sums", force=("sums",))
    assert world.ran(again.id) == ["sums"]
    assert world.run("sums").made["why"] == "forced"


def test_an_output_that_was_overwritten_by_hand_is_made_again(world: World) -> None:
    world.drive("run", "rows")
    (world.folder / "data" / "rows.csv").write_text("by hand")
    again = world.drive("run", "rows")
    assert world.ran(again.id) == ["make"]
    assert world.run("make").outputs == ("data/rows.csv@1",)


# -- retry ----------------------------------------------------------------------------------------------------------------------------


def test_a_lost_attempt_is_tried_again_from_its_checkpoint(world: World) -> None:
    def twice(attempt: Attempt) -> Told:
        if attempt.token == 1:
            return [checkpoint(3, 0.1), checkpoint(5, 0.2), *lost(attempt)]
        return [checkpoint(9, 0.2), *world.usual(attempt)]

    world.scripts["fit"] = twice
    assert world.drive("run", "fit").status == "done"
    first, second = (attempt for attempt in world.attempts if attempt.step == "fit")
    assert first.checkpoint is None and second.checkpoint is not None
    assert (second.checkpoint["step"], second.checkpoint["token"]) == (5, 1)
    assert [known["step"] for known in second.checkpoint["previous"]] == [3], "to fall back on if the newest is damaged"
    run = world.run("fit")
    assert [(attempt.token, attempt.status, attempt.failure) for attempt in run.attempts] == [
        (1, "failed", "worker_lost"),
        (2, "succeeded", None),
    ]
    assert "/2/" in world.workspace.records.version("price@1").location
    resumed = world.events("checkpoint.committed", run.id)[-1].payload
    assert (resumed["step"], [known["step"] for known in resumed["previous"]]) == (9, [5])


def test_restarts_are_bounded(world: World) -> None:
    world.scripts["make"] = lost
    launch = world.drive("run", "make")
    assert (launch.status, launch.message) == ("failed", "make-1 failed: its shim is gone")
    assert world.sim.submitted == [("make-1", 1), ("make-1", 2), ("make-1", 3)], "max_restarts is 2"


@pytest.mark.parametrize("failure", ["user_error", "timeout"])
def test_what_would_fail_again_is_not_tried_again(world: World, failure: str) -> None:
    world.scripts["make"] = lambda _: [ended("failed", failure, "no such column")]
    launch = world.drive("run", "rows")
    assert (launch.status, launch.message) == ("failed", "make-1 failed: no such column")
    assert world.sim.submitted == [("make-1", 1)]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_preempted_delayed_or_delivered_twice_the_end_is_the_same(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "shop", SHOP, Faults(preempted=0.25, lost=0.25, duplicated=0.5, delay_s=2.0), seed)
    for _ in range(10):  # a step that is lost four times fails its launch, and is asked for again
        record = world.drive("run", "fit")
        if record.status == "done":
            break
    assert record.status == "done", (world.sim, record.message)
    versions = {name: len(known) for name, known in world.workspace.records.versions.items()}
    assert versions == dict.fromkeys(("data/rows.csv", "rows", "sums", "fit.inputs", "price"), 1), (world.sim, versions)
    for run in world.workspace.records.runs.values():
        assert [attempt.token for attempt in run.attempts] == list(range(1, len(run.attempts) + 1)), world.sim
        assert run.ended and len(world.events("run.finished", run.id)) == 1, world.sim
    world.close()


# -- fencing by place -----------------------------------------------------------------------------------------------------------------


def test_what_an_older_attempt_writes_is_never_accepted(world: World) -> None:
    world.scripts["make"] = lambda attempt: lost(attempt) if attempt.token == 1 else world.usual(attempt)
    launch = world.ask("run", "make")
    with world.loop() as loop:
        world.tick(loop, lambda: world.run("make").state.token == 2)
        zombie = JournalWriter(world.workspace.attempt_folder("make-1", 1), "shim")
        zombie.write("output", name="data/rows.csv", kind="file", digest="of a zombie", location="data/rows.csv", meta={})
        zombie.write("ended", status="succeeded", failure=None, message="")
        world.tick(loop, lambda: world.launch(launch).status == "done")
    assert [attempt.status for attempt in world.run("make").attempts] == ["failed", "succeeded"]
    assert world.workspace.records.version("data/rows.csv@1").digest != "of a zombie"


def test_a_declared_output_that_was_not_written_fails_the_run(world: World) -> None:
    world.scripts["make"] = lambda _: [ended()]
    launch = world.drive("run", "rows")
    run = world.run("make")
    assert (launch.status, run.status, run.failure) == ("failed", "failed", "user_error")
    assert "data/rows.csv" in run.message and "did not write" in run.message
    assert "rows" not in world.ran(launch.id)


@pytest.mark.parametrize("message", ["caf\udce9.csv is missing", "plain"])
def test_no_word_of_a_worker_can_stop_the_loop(world: World, message: str) -> None:
    nan = float("nan")
    told = [(0.1, "metric", {"step": 1, "values": {"loss": nan, "rows": 3.0}}), (0.2, "tag", {"values": {"note": message}})]
    world.scripts["make"] = lambda _: [*told, (0.3, "checkpoint", {"step": 1, "loss": nan}), ended("failed", "user_error", message)]
    assert world.drive("run", "make").status == "failed"
    run = world.run("make")
    assert run.metrics == {"rows": 3.0}
    assert run.message.startswith(message[:3])
    assert run.message.encode()


# -- hosting and adoption -------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The loop's process ends here."""


class DeadlyLauncher(HereLauncher):
    """Submits, and then its process is killed before anything is recorded."""

    deadly = True

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        handle = super().submit(attempt)
        if self.deadly:
            raise Killed
        return handle


def killed_after_submit(world: World) -> str:
    """A launch whose loop was killed between submitting its first attempt and recording it."""
    world.simulate(DeadlyLauncher(world.script, world.clock))
    launch = world.ask("run", "make")
    with pytest.raises(Killed), world.loop() as loop:
        world.tick(loop, lambda: False)
    assert world.sim.submitted == [("make-1", 1)]
    assert world.events("attempt.started") == []
    world.sim.deadly = False
    return launch


def test_a_loop_killed_between_submit_and_record_is_followed_by_one_that_adopts(world: World) -> None:
    launch = killed_after_submit(world)
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status == "done")
    assert world.sim.submitted == [("make-1", 1)], "nothing was started twice"
    assert len(world.events("attempt.started")) == 1


def test_an_unrecorded_attempt_is_stopped_when_its_run_is_cancelled_before_anybody_adopts_it(world: World) -> None:
    world.scripts["make"] = endless
    killed_after_submit(world)
    request_stop(world.workspace, ("make-1",), "cancel", "changed my mind")
    with world.loop() as loop:
        world.tick(loop, lambda: world.run("make-1").ended)
    assert world.run("make-1").status == "cancelled"
    assert world.sim.poll(world.run("make-1").attempts[0].handle) == "gone", "no process is left behind"


def test_journals_read_again_from_the_start_change_nothing(world: World) -> None:
    world.scripts["fit"] = lambda attempt: [checkpoint(1), (0.4, "metric", {"step": 1, "values": {"loss": 2.0}}), *endless(attempt)]
    world.ask("run", "fit")
    with world.loop() as loop:
        world.tick(loop, lambda: len(world.events("checkpoint.committed")) == 1)
        world.tick(loop, lambda: (world.workspace.state / "series" / "fit-1").is_dir())
    head = world.workspace.ledger.head()
    chunks = sorted((world.workspace.state / "series" / "fit-1").iterdir())
    with world.loop() as loop:
        for _ in range(3):
            loop.tick()
            world.clock.sleep(0.4)
    assert world.workspace.ledger.head() == head
    assert sorted((world.workspace.state / "series" / "fit-1").iterdir()) == chunks


def test_a_second_loop_is_not_hosted_while_the_first_lives(world: World) -> None:
    with world.loop(), open_workspace(world.folder, clock=world.clock) as second:
        with hosted(second) as loop:
            assert loop is None
    with open_workspace(world.folder, clock=world.clock) as third, hosted(third) as loop:
        assert loop is not None


def test_a_loop_that_slept_through_its_lease_is_fenced_and_appends_nothing(world: World) -> None:
    world.scripts["make"] = endless
    launch = world.ask("run", "make")
    with open_workspace(world.folder, clock=world.clock) as other:
        with pytest.raises(Fenced), world.loop() as paused:
            world.tick(paused, lambda: world.run("make").state.live if world.events("run.created") else False)
            world.clock.sleep(LEASE_S + 1)
            with hosted(other) as taken:
                assert taken is not None
                taken.launchers = {"local": world.sim}
                taken.tick()
                request_stop(other, ("make-1",), "stop", "enough")
                before = other.ledger.head()
                with pytest.raises(Fenced):
                    paused._append(world.events("run.created")[0])
                assert other.ledger.head() == before
                paused.tick()
        assert other.ledger.head() == before
    assert world.launch(launch).status == "open"


def test_the_lease_of_a_dead_process_is_taken_over_at_once(world: World) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = {"boot_id": boot_id(), "pid": dead.pid, "start_ticks": 1, "token": 0}
    world.workspace.ledger.acquire(LEASE, json.dumps(holder), LEASE_S)
    with hosted(world.workspace) as loop:
        assert loop is not None and loop.lease.token == 2


def test_a_holder_on_another_machine_counts_as_alive_until_its_lease_expires(world: World) -> None:
    elsewhere = {**asdict(own_identity(0)), "boot_id": "another"}
    world.workspace.ledger.acquire(LEASE, json.dumps(elsewhere), LEASE_S)
    with hosted(world.workspace) as loop:
        assert loop is None
    world.clock.sleep(LEASE_S + 0.1)
    with hosted(world.workspace) as loop:
        assert loop is not None


# -- launches beside each other -------------------------------------------------------------------------------------------------------


def test_a_launch_fails_when_a_step_does_and_what_else_runs_ends_first(world: World) -> None:
    world.scripts["make"] = fails
    world.scripts["other"] = lambda _: [(9.0, "ended", {"status": "succeeded", "failure": None, "message": ""})]
    launch = world.drive("up", "make", "other")
    assert (launch.status, launch.message) == ("failed", "make-1 failed: no such column")
    assert world.run("other").status == "succeeded"
    assert world.events("run.finished", "other-1")[0].seq < world.events("launch.finished")[0].seq


def test_a_step_that_cannot_start_fails_the_launch_after_what_runs_has_ended(world: World) -> None:
    world.rmse = 9.0  # the gate holds, so the endpoint has nothing to serve
    world.scripts["other"] = lambda _: [(60.0, "ended", {"status": "succeeded", "failure": None, "message": ""})]
    launch = world.drive("up")
    assert launch.status == "failed" and "the gate held it" in launch.message
    assert world.run("other").status == "succeeded"
    assert "prices" not in world.ran(launch.id)


def test_a_launch_attaches_to_a_run_that_another_one_started(world: World) -> None:
    first, second = world.ask("run", "make"), world.ask("run", "rows")
    with world.loop() as loop:
        world.tick(loop, lambda: {world.launch(first).status, world.launch(second).status} == {"done"})
    assert world.ran(first) == ["make"]
    assert world.ran(second) == ["rows"]


def test_a_stopped_run_ends_its_launch_and_goes_on_from_its_checkpoint_when_asked_again(world: World) -> None:
    world.scripts["fit"] = lambda attempt: [checkpoint(7), *endless(attempt)]
    launch = world.ask("run", "fit")
    with world.loop() as loop:
        world.tick(loop, lambda: len(world.events("checkpoint.committed")) == 1)
        request_stop(world.workspace, ("fit-1",), "stop", "the laptop goes home")
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert (world.launch(launch).status, world.run("fit-1").status) == ("stopped", "stopped")
    del world.scripts["fit"]
    again = world.drive("run", "fit")
    assert (again.status, world.ran(again.id)) == ("done", ["fit"])
    resumed = world.attempts[-1].checkpoint
    assert resumed is not None and resumed["step"] == 7


def test_a_forced_run_does_not_go_on_from_the_one_that_succeeded(world: World) -> None:
    world.scripts["fit"] = lambda attempt: [checkpoint(7), *world.usual(attempt)]
    world.drive("run", "fit")
    world.drive("run", "fit", force=("fit",))
    assert (world.attempts[-1].run, world.attempts[-1].checkpoint) == ("fit-2", None)


def test_a_step_waits_for_the_cores_that_another_takes(world: World) -> None:
    world.scripts["other"] = endless
    world.declare(SHOP.replace('"sleep 1", resources: {cpus: 0.2}', '"sleep 1", resources: {cpus: 1000}'))
    world.ask("run", "other")
    launch = world.ask("run", "make")
    with world.loop() as loop:
        for _ in range(3):
            loop.tick()
        assert world.ran(launch) == [], "no cores are left beside what runs"
        request_stop(world.workspace, ("other-1",), "cancel", "")
        world.tick(loop, lambda: world.launch(launch).status == "done")
    assert world.ran(launch) == ["make"]


def test_a_run_that_is_stopped_before_its_start_never_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = world.ask("run", "make")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt), world.loop() as loop:
        killed.setattr("bedplate.flow.loop.make_attempt", _killed)
        loop.tick()
    assert world.run("make").status == "pending"
    with world.loop() as loop:
        request_stop(world.workspace, ("make-1",), "stop", "")
        world.tick(loop, lambda: world.launch(launch).status != "open")
    assert (world.run("make").status, world.launch(launch).status, world.sim.submitted) == ("stopped", "stopped", [])


def test_a_promotion_by_hand_while_a_gate_ends_is_not_overrun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.drive("up")
    world.contents["fit"] = "2"
    launch = world.ask("up", force=("fit",))
    meanwhile = open_workspace(world.folder, clock=world.clock)
    decide = loop_module.finished

    def slowly(workspace: Workspace, run: RunRecord, *rest: Any) -> Any:
        drafts = decide(workspace, run, *rest)
        if run.step == "price" and meanwhile.refresh().alias("price", "production") == 1:
            promote(meanwhile, "price@2", "it is better, I looked")
        return drafts

    monkeypatch.setattr(loop_module, "finished", slowly)
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open")
    meanwhile.close()
    assert "production moved" in world.launch(launch).message
    assert [event.payload["version"] for event in world.events("alias.moved")] == [1, 2]


def test_no_run_is_created_for_a_launch_that_is_brought_down_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = world.ask("run", "make", "other")
    create = loop_module.run_created

    def slowly(workspace: Workspace, *rest: Any) -> Any:
        draft = create(workspace, *rest)
        if world.launch(launch).status == "open":
            bring_down(other, lambda _: None)
        return draft

    monkeypatch.setattr(loop_module, "run_created", slowly)
    with open_workspace(world.folder, clock=world.clock) as other, world.loop() as loop:
        loop.tick()
        loop.tick()
    assert (world.ran(launch), world.sim.submitted) == ([], [])


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


# -- endpoints ------------------------------------------------------------------------------------------------------------------------


def test_a_newer_model_is_served_before_the_replica_of_the_older_one_is_stopped(world: World) -> None:
    world.drive("up")
    world.contents["fit"] = "2"
    (world.folder / "fit.py").write_text("# trained otherwise\n" + (world.folder / "fit.py").read_text())
    launch = world.drive("up")
    assert launch.status == "done"
    assert (world.run("prices-1").status, world.run("prices-2").status) == ("stopped", "ready")
    ready = world.events("endpoint.ready", "prices-2")[0].seq
    assert ready < world.events("stop.requested", "prices-1")[0].seq


def test_an_endpoint_that_dies_before_it_answers_fails_its_launch(world: World) -> None:
    dies = [(at_s, "process", {"rank": 0, "code": 1}) for at_s in (0.2, 0.6, 1.2)]
    failure = (0.1, "failure", {"failure": "user_error", "message": "no such function", "rank": 0})
    world.scripts["prices"] = lambda _: [failure, *dies, (1e6, "ended", {"status": "stopped"})]
    launch = world.drive("up")
    assert (launch.status, launch.message) == ("failed", "prices-1 failed: no such function")


def test_an_endpoint_that_answered_and_died_is_left_to_its_shim(world: World) -> None:
    dies = [(0.9, "process", {"rank": 0, "code": -9})] * 5
    world.scripts["prices"] = lambda _: [(0.5, "ready", {"port": 8001}), *dies, (1e6, "ended", {"status": "stopped"})]
    launch = world.ask("up")
    with world.loop() as loop:
        world.tick(loop, lambda: world.launch(launch).status != "open", step_s=5.0)  # all of it in one reading
    assert (world.launch(launch).status, world.run("prices").status) == ("done", "ready")


def test_a_lost_replica_is_not_ready_until_the_next_attempt_says_so(world: World) -> None:
    world.scripts["prices"] = lambda attempt: (
        [*world.usual(attempt)[:1], (3.0, "heartbeat", {})] if attempt.token == 1 else world.usual(attempt)
    )
    world.drive("up")
    seen = []
    launch = world.ask("up")
    with world.loop() as loop:
        world.clock.sleep(5.0)
        world.tick(loop, lambda: seen.append(world.run("prices").status) or world.launch(launch).status == "done", step_s=0.1)
    assert "running" in seen and seen[-1] == "ready"
    assert world.ran(launch) == [], "the run that is there goes on; no second one is started"
    assert world.run("prices").port == 8002


# -- real processes -------------------------------------------------------------------------------------------------------------------

COUNT = """
project: count
jobs:
  count: {command: "echo once >> count.txt", outputs: [count.txt]}
"""


def real(folder: Path) -> Any:
    folder.mkdir()
    (folder / "bedplate.yaml").write_text(COUNT)
    return open_workspace(folder)


def wait(loop: Loop, launch: str) -> None:
    for _ in range(3000):
        loop.tick()
        if loop.workspace.records.launches[launch].status != "open":
            return
        loop.workspace.clock.sleep(0.02)
    raise AssertionError("it never ended")


def test_a_real_process_that_a_killed_loop_started_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deadly(LocalLauncher):
        def submit(self, attempt: Attempt) -> dict[str, Any]:
            super().submit(attempt)
            raise Killed

    with real(tmp_path / "count") as workspace:
        launch = request_launch(workspace, "run", ("count",))
        with pytest.raises(Killed), hosted(workspace) as loop:
            assert loop is not None
            loop.launchers = {"local": Deadly()}
            wait(loop, launch)
        with hosted(workspace) as loop:
            assert loop is not None
            wait(loop, launch)
        assert workspace.records.launches[launch].status == "done"
        assert (workspace.project.root / "count.txt").read_text() == "once\n"
        assert [attempt.status for attempt in workspace.records.run("count").attempts] == ["succeeded"]
        shim = workspace.records.run("count").attempts[0].handle["pid"]
        assert shim != os.getpid()
