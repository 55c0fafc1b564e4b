"""The pipeline of GitLab: YAML that it reads, the same scripts, and the way back where it always runs."""

from __future__ import annotations

import subprocess

import yaml

from bedplate.models.ci.gitlab import render
from bedplate.models.ci.stages import Pipeline, plan_stages, release_stages

PIPELINE = Pipeline("flights", ("train_delay",), ("delay",), ("delay-api",), pool="gpu-pool", branch="trunk")
FLOW = yaml.safe_load(render(PIPELINE))


def test_a_change_is_planned_and_the_branch_is_released() -> None:
    assert FLOW["stages"] == ["plan", "release"] and FLOW["default"]["tags"] == ["gpu-pool"]
    assert FLOW["plan"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}]
    assert FLOW["release"]["rules"] == [{"if": '$CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH == "trunk"'}]
    assert FLOW["release"]["environment"] == "production" and FLOW["release"]["resource_group"] == "production"


def test_the_scripts_are_the_stages_in_their_order() -> None:
    assert FLOW["plan"]["script"][:-1] == [stage.script for stage in plan_stages()]
    assert FLOW["release"]["script"] == [stage.script for stage in release_stages(PIPELINE) if not stage.on]


def test_the_way_back_runs_only_after_a_failure() -> None:
    [back] = FLOW["release"]["after_script"]
    assert "bedplate ci back" in back and 'if [ "$CI_JOB_STATUS" = failed ]' in back
    done = subprocess.run(["bash", "-n"], input=back, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    fine = subprocess.run(["/bin/bash"], input=back, text=True, capture_output=True, check=False, env={"CI_JOB_STATUS": "success"})
    assert (fine.returncode, fine.stdout + fine.stderr) == (0, "")


def test_secrets_are_named_and_never_written() -> None:
    text = render(PIPELINE)
    assert "$BEDPLATE_GITLAB_TOKEN" in text and "${BEDPLATE_SIGNING_KEY:-}" in text
    assert set(FLOW["variables"]) == {"BEDPLATE_STATE", "GIT_DEPTH"}


def test_a_project_without_endpoints_has_no_way_back() -> None:
    assert "after_script" not in yaml.safe_load(render(Pipeline("x", ("hello",), (), ())))["release"]
