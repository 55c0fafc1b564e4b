"""The workflow: YAML that GitHub reads, least permissions, pinned actions, and nothing of an event in a script."""

from __future__ import annotations

import re

import yaml

from bedplate.models.ci.github import render
from bedplate.models.ci.stages import Pipeline, release_stages

PIPELINE = Pipeline("flights", ("train_delay",), ("delay",), ("delay-api",), pool="gpu-pool")
TEXT = render(PIPELINE)
FLOW = yaml.safe_load(TEXT)


def test_a_change_is_planned_and_the_branch_is_released() -> None:
    assert FLOW[True] == {"pull_request": {"branches": ["main"]}, "push": {"branches": ["main"]}}  # YAML reads `on` as true
    assert set(FLOW["jobs"]) == {"plan", "release"}
    plan, release = FLOW["jobs"]["plan"], FLOW["jobs"]["release"]
    assert plan["if"].startswith("github.event_name == 'pull_request'") and release["if"] == "github.event_name == 'push'"
    assert "head.repo.full_name == github.repository" in plan["if"], "a fork's code does not run on own runners"
    assert release["environment"] == "production" and "gpu-pool" in release["runs-on"]


def test_permissions_are_the_least_that_each_job_needs() -> None:
    assert FLOW["permissions"] == {"contents": "read"}
    assert FLOW["jobs"]["plan"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert FLOW["jobs"]["release"]["permissions"] == {"contents": "read"}


def test_actions_are_pinned_by_version() -> None:
    used = [step["uses"] for job in FLOW["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(used) == 4 and all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", each) for each in used)
    assert all(step["with"]["persist-credentials"] is False for step in FLOW["jobs"]["plan"]["steps"] if "checkout" in step.get("uses", ""))


def test_no_script_holds_an_expression_and_secrets_are_named() -> None:
    steps = [step for job in FLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert all("${{" not in step["run"] for step in steps)
    given = {name: value for step in steps for name, value in step.get("env", {}).items()}
    assert given == {
        "GH_TOKEN": "${{ github.token }}",
        "NUMBER": "${{ github.event.number }}",
        "BEDPLATE_SIGNING_KEY": "${{ secrets.BEDPLATE_SIGNING_KEY }}",
        "BEFORE": "${{ github.event.before }}",
        "CI_RUN": "${{ github.run_id }}",
        "RUNNER_TRACKING_ID": "",
    }


def test_the_steps_are_the_stages_in_their_order() -> None:
    steps = [step for step in FLOW["jobs"]["release"]["steps"] if "run" in step]
    assert [(step["name"], step["run"]) for step in steps] == [(stage.name, stage.script) for stage in release_stages(PIPELINE)]
    assert {step["name"]: step.get("if") for step in steps if "if" in step} == {"roll back": "failure()"}


def test_two_releases_do_not_run_at_once() -> None:
    assert "'release'" in FLOW["concurrency"]["group"] and "pull_request" in FLOW["concurrency"]["cancel-in-progress"]
