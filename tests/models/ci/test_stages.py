"""The scripts of a pipeline: valid bash, in an order that makes sense, and only what the project has."""

from __future__ import annotations

import subprocess

import pytest

from bedplate.models.ci.stages import Pipeline, plan_stages, release_stages

WHOLE = Pipeline("flights", ("train_delay",), ("delay",), ("delay-api", "other"))


@pytest.mark.parametrize("stage", [*plan_stages(), *release_stages(WHOLE)], ids=lambda stage: stage.name)
def test_every_script_is_bash(stage: object) -> None:
    done = subprocess.run(["bash", "-n"], input=stage.script, text=True, capture_output=True, check=False)  # type: ignore[attr-defined]
    assert done.returncode == 0, done.stderr


def test_the_aliases_are_marked_before_anything_can_move_them_and_only_a_failure_goes_back() -> None:
    stages = release_stages(WHOLE)
    assert [stage.name for stage in stages] == ["install", "signing key", "mark", "train", "gate", "deploy", "canary", "roll back"]
    assert [stage.name for stage in stages if stage.on] == ["roll back"] and stages[-1].on == "failure"
    said = {stage.name: stage.script for stage in stages}
    assert said["train"] == "bedplate run train_delay\n" and said["gate"] == "bedplate up delay\n"
    assert said["canary"] == "bedplate ci canary delay-api --requests 20\nbedplate ci canary other --requests 20\n"
    assert "bedplate up delay-api other" in said["roll back"]


def test_a_project_without_models_or_endpoints_has_no_stage_for_them() -> None:
    assert [stage.name for stage in release_stages(Pipeline("x", ("hello",), (), ()))] == ["install", "signing key", "mark", "train"]


def test_the_plan_starts_nothing() -> None:
    scripts = "".join(stage.script for stage in plan_stages())
    assert "bedplate ci comment" in scripts and "bedplate up" not in scripts and "bedplate run" not in scripts
