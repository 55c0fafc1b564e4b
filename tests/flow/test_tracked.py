"""The project's own runs and models as a store: jobs that ran here, and what is not there any more."""

from __future__ import annotations

from pathlib import Path

from bedplate.flow.moving import remove
from bedplate.flow.tracked import tracked
from flow.world import World


def test_jobs_are_experiments_and_their_runs_have_params_status_and_times(world: World, tmp_path: Path) -> None:
    world.drive("up")
    with tracked(world.workspace) as store:
        experiments = {experiment.name: experiment for experiment in store.experiments()}
        assert "shop/fit" in experiments
        [run] = store.runs(experiments["shop/fit"].id)
        assert (run.id, run.user, run.status, run.params) == ("fit-1", "bedplate", "FINISHED", {"lr": "0.1"})
        assert run.end_ms is not None
        assert store.artifacts(run) == []
        assert store.points(run.id) == []
        [model] = [each for each in store.registered() if each.name == "price"]
        assert model.aliases == {"production": 1}
        assert [version.number for version in store.versions("price")] == [1]


def test_artifacts_of_the_newest_attempt_are_a_runs_files(world: World, tmp_path: Path) -> None:
    world.drive("run", "other")
    folder = world.workspace.attempt_folder("other-1", 1) / "out" / "artifacts" / "deep"
    folder.mkdir(parents=True)
    (folder / "x.txt").write_text("hello")
    with tracked(world.workspace) as store:
        [run] = [run for experiment in store.experiments() for run in store.runs(experiment.id) if run.id == "other-1"]
        assert [tuple(each) for each in store.artifacts(run)] == [("deep/x.txt", 5)]
        store.fetch(run, "deep/x.txt", tmp_path / "x")
        assert (tmp_path / "x").read_text() == "hello"


def test_a_version_that_was_removed_is_not_exported(world: World) -> None:
    world.drive("up")
    world.contents["fit"] = "2"
    world.drive("up", force=("fit",))
    remove(world.workspace, "price@1", "worse")
    with tracked(world.workspace) as store:
        assert [version.number for version in store.versions("price")] == [2]
