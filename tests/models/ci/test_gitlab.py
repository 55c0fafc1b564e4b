"""The pipeline of GitLab: YAML that it reads, the same scripts, and the way back where it always runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("endpoints", [(), ("api",), ("x", "y")])
@pytest.mark.parametrize("branch", ["main", "release/2.x"])
def test_every_script_of_every_pipeline_is_bash_and_in_order(endpoints: tuple[str, ...], branch: str) -> None:
    flow = yaml.safe_load(render(Pipeline("p", ("fit",), ("m",), endpoints, branch=branch)))
    assert flow["release"]["rules"] == [{"if": f'$CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH == "{branch}"'}]
    scripts = [*flow["plan"]["script"], *flow["release"]["script"], *flow["release"].get("after_script", [])]
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    told = "".join(flow["release"]["script"])
    order = [told.index(word) for word in ("ci mark", "bedplate run fit", "bedplate up m", *(f"ci canary {name}" for name in endpoints))]
    assert order == sorted(order)


def test_nothing_of_a_request_can_become_a_command() -> None:
    text = render(PIPELINE)
    for name in ("CI_MERGE_REQUEST_TITLE", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_MESSAGE", "CI_COMMIT_REF_NAME"):
        assert name not in text
    assert "BEDPLATE_SIGNING_KEY" not in str(FLOW["plan"]), "a merge request's code sees no key of the release"


def test_two_releases_do_not_run_at_once_and_none_is_broken_off() -> None:
    assert FLOW["release"]["resource_group"] == "production"
    assert FLOW["default"]["interruptible"] is False
    assert (FLOW["plan"]["timeout"], FLOW["release"]["timeout"]) == ("30 minutes", "6 hours")


def test_after_a_failure_the_way_back_is_tried_and_its_own_failure_is_seen(tmp_path: Path) -> None:
    [back] = FLOW["release"]["after_script"]
    said = tmp_path / "said"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bedplate").write_text(f'#!/bin/bash\necho "$@" >> {said}\n[ "$1 $2" != "$BREAKS" ]\n')
    (tmp_path / "bin" / "bedplate").chmod(0o755)
    around = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "CI_JOB_STATUS": "failed", "CI_PIPELINE_ID": "77"}
    done = subprocess.run(["/bin/bash"], input=back, text=True, capture_output=True, check=False, env=around, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said.read_text().splitlines() == ["ci back .bedplate-ci/before.json --reason the canary failed in 77", "up delay-api"]
    broken = {**around, "BREAKS": "ci back"}
    done = subprocess.run(["/bin/bash"], input=back, text=True, capture_output=True, check=False, env=broken, cwd=tmp_path)
    assert done.returncode == 1
    assert said.read_text().splitlines()[2:] == ["ci back .bedplate-ci/before.json --reason the canary failed in 77"]
