"""The train step, as the project's own processes ran it: a version, its parameters and metrics, and declared outputs beside it."""

from __future__ import annotations

from pathlib import Path

from bedplate.flow.facts import location_of
from bedplate.flow.opened import OpenProject


def test_training_makes_a_version_with_weights_parameters_and_metrics(served: tuple[Path, OpenProject]) -> None:
    _, project = served
    version = project.version("amount@1")
    assert (version.kind, version.run) == ("model", "fit-1")
    assert (location_of(project._workspace, version) / "model.safetensors").is_file()
    (run,) = project.runs("fit")
    assert (run.status, run.params["epochs"]) == ("succeeded", 6)
    assert run.metrics["loss"] > 0


def test_what_it_declares_beside_the_model_is_a_version_too(served: tuple[Path, OpenProject]) -> None:
    folder, project = served
    (run,) = project.runs("fit")
    assert run.outputs == ("amount@1", "notes.txt@1")
    assert (project.version("notes.txt").kind, (folder / "notes.txt").read_text()) == ("file", "done")


def test_the_training_set_that_it_read_is_among_its_inputs(served: tuple[Path, OpenProject]) -> None:
    _, project = served
    (run,) = project.runs("fit")
    assert run.made["inputs"] == {"fit.inputs": "fit.inputs@1"}
    assert project.version("fit.inputs").meta["splits"]["train"] > 0
