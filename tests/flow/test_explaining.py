"""Explaining: the words that a person reads about a run or a step."""

from __future__ import annotations

import pytest

from bedplate.core.errors import NotFound, SpecError
from bedplate.flow.explaining import explain
from flow.world import SHOP, Told, World, checkpoint, ended


def test_a_step_that_was_never_made(world: World) -> None:
    told = explain(world.workspace, "make")
    assert told["now"] == "run: never made"
    assert told["where"].startswith("local, 1 worker(s).")
    assert told["fingerprint of"] == "its declaration, code, packages and inputs"
    assert "run" not in told
    assert explain(world.workspace, "rows")["now"] == "waits: after make"


def test_a_step_that_is_up_to_date_shows_its_newest_run(world: World) -> None:
    world.drive("up")
    told = explain(world.workspace, "sums")
    assert told["now"] == "fresh: sums@1 by sums-1"
    assert told["run"] == "sums-1 succeeded"
    assert told["why it ran"] == "never made"
    assert told["attempt 1"].startswith("succeeded on local after ")
    assert told["logs"] == "bedplate logs sums-1"
    assert told["fingerprint of"].endswith("as last made by sums-1")


def test_a_run_that_failed_says_why_and_what_would_help(world: World) -> None:
    world.scripts["make"] = lambda _: [ended("failed", "user_error", "KeyError: 'day' (make.py:3)")]
    world.drive("run", "make")
    told = explain(world.workspace, "make-1")
    assert told["run"] == "make-1 failed"
    assert told["message"] == "KeyError: 'day' (make.py:3)"
    assert told["attempt 1"].endswith(": user_error: KeyError: 'day' (make.py:3)")
    assert told["what would help"].startswith("correct the code or the data")
    assert "now" not in told, "a run is explained, not the step as it would be now"


def test_a_run_that_was_lost_too_often_shows_every_attempt(world: World) -> None:
    def loses(attempt: object) -> Told:
        return [checkpoint(3, 0.1), (0.2, "heartbeat", {})]

    world.scripts["fit"] = loses
    world.drive("run", "fit")
    told = explain(world.workspace, "fit")
    assert [name for name in told if name.startswith("attempt")] == ["attempt 1", "attempt 2", "attempt 3", "attempt 4"]
    assert told["last checkpoint"] == "step 3, a new attempt goes on from there"
    assert "max_restarts" in told["what would help"]


def test_ranks_that_were_replaced_and_what_was_noticed_are_told(world: World) -> None:
    restart = {"generation": 1, "failure": "worker_lost", "why": "rank 2 was ended by SIGKILL", "resumed_at": 8, "lost_steps": 0}
    notice = {"failure": "hang", "message": "rank 1 did not arrive", "stacks": ["stacks/rank-1.txt"]}

    def script(_: object) -> Told:
        return [(0.1, "restart", {**restart, "kept": 3, "world_size": 4}), (0.2, "notice", notice), ended("failed", "hang", "no progress")]

    world.scripts["other"] = script
    world.drive("run", "other")
    told = explain(world.workspace, "other-1")
    assert told["attempt 1, restart 1"].endswith("rank 2 was ended by SIGKILL; went on at step 8, 0 step(s) lost, 3 of 4 processes kept")
    assert told["attempt 1, notice 1"] == "hang: rank 1 did not arrive; stacks in stacks/rank-1.txt"
    assert told["class of failure"].startswith("hang: stacks and collectives of every rank")
    assert "hang_after" in told["what would help"]


def test_a_live_run_whose_process_is_gone_is_said_to_be_adopted_next(world: World) -> None:
    world.scripts["other"] = lambda _: [(1e6, "ended", {})]
    world.ask("run", "other")
    with world.loop() as loop:
        world.tick(loop, lambda: world.events("attempt.started") != [])
    assert "process" not in explain(world.workspace, "other-1")
    world.process.kill()
    world.process.wait()
    assert explain(world.workspace, "other-1")["process"].startswith("gone; the next `bedplate up`")


def test_a_gate_shows_its_decision_and_metrics(world: World) -> None:
    world.rmse = 9.0
    world.drive("up", "price")
    told = explain(world.workspace, "price")
    assert (told["decision"], told["metrics"]) == ("not promoted: rmse <= 5", {"rmse": 9.0})


def test_a_run_is_explained_also_when_the_project_cannot_be_planned(world: World) -> None:
    world.scripts["fit"] = lambda _: [ended("failed", "user_error", "SyntaxError")]
    world.drive("run", "fit")
    (world.folder / "fit.py").write_text("def fit(:\n")
    assert explain(world.workspace, "fit-1")["message"] == "SyntaxError"
    with pytest.raises(SpecError, match=r"fit.py:1: not valid Python"):
        explain(world.workspace, "fit")


def test_an_unknown_name_is_met_with_the_nearest(world: World) -> None:
    with pytest.raises(NotFound, match="did you mean 'price' or 'prices'"):
        explain(world.workspace, "pric")


def test_a_step_that_is_declared_no_more_is_explained_by_its_runs(world: World) -> None:
    world.drive("run", "other")
    world.declare(SHOP.replace('  other: {command: "sleep 1", resources: {cpus: 0.2}}\n', ""))
    told = explain(world.workspace, "other")
    assert told["run"] == "other-1 succeeded" and "now" not in told


def test_trouble_with_storage_is_told_with_its_class_and_ends_nothing(world: World) -> None:
    notice = {"failure": "storage", "message": "step-4 is not in s3://b yet, it is tried again: timed out", "tier": "s3://b", "rank": 0}
    world.scripts["other"] = lambda _: [(0.2, "notice", notice), ended()]
    world.drive("run", "other")
    told = explain(world.workspace, "other-1")
    assert told["run"] == "other-1 succeeded"
    assert told["attempt 1, notice 1"] == "storage: step-4 is not in s3://b yet, it is tried again: timed out"


def test_a_run_tells_its_mesh_and_why_the_planner_chose_it(world: World) -> None:
    workers = "resources: {workers: 2, cpus: 0.1}"
    world.declare(SHOP.replace("max_restarts: 2, resources: {cpus: 0.2}", f"max_restarts: 2, mesh: auto, {workers}"))
    world.drive("run", "make")
    told = explain(world.workspace, "make-1")["mesh"]
    assert told == "data 2, chosen by the planner; the job declares no architecture, so every worker has a copy of the model"
    world.declare(SHOP.replace("max_restarts: 2, resources: {cpus: 0.2}", f"max_restarts: 2, mesh: {{tensor: 2}}, {workers}"))
    world.drive("run", "make", force=["make"])
    assert explain(world.workspace, "make-2")["mesh"] == "tensor 2"
