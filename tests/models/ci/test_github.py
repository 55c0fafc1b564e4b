"""The workflow: YAML that GitHub reads, least permissions, pinned actions, and nothing of an event in a script."""

from __future__ import annotations

import re

import pytest
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


VARIANTS = [
    PIPELINE,
    Pipeline("solo", ("hello",), (), ()),
    Pipeline("serves", (), (), ("api",), branch="release/2.x", python="3.12", state="/srv/ledgers"),
    Pipeline("all", ("a", "b"), ("m", "n"), ("x", "y"), branch="trunk"),
]


@pytest.mark.parametrize("pipeline", VARIANTS, ids=lambda each: each.project)
def test_every_pipeline_reads_least_and_writes_no_secret(pipeline: Pipeline) -> None:
    text = render(pipeline)
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    granted = {(name, what) for name, job in flow["jobs"].items() for what, access in job["permissions"].items() if access != "read"}
    assert granted == {("plan", "pull-requests")}, "a job's own permissions replace those above, so each must be small"
    expressions = set(re.findall(r"\$\{\{\s*(.*?)\s*\}\}", text))
    assert {each for each in expressions if each.startswith("secrets.")} == {"secrets.BEDPLATE_SIGNING_KEY"}
    assert not [each for each in expressions if re.search(r"head_ref|title|body|event\.pull_request\.(?!head\.repo)", each)]
    plan = [step for step in flow["jobs"]["plan"]["steps"] if "secrets." in str(step)]
    assert plan == [], "a pull request's code sees no secret"


@pytest.mark.parametrize("pipeline", VARIANTS, ids=lambda each: each.project)
def test_code_is_checked_out_before_python_before_every_script(pipeline: Pipeline) -> None:
    flow = yaml.safe_load(render(pipeline))
    for job in flow["jobs"].values():
        kinds = [step.get("uses", "script").partition("@")[0] for step in job["steps"]]
        assert kinds[:2] == ["actions/checkout", "actions/setup-python"]
        assert set(kinds[2:]) == {"script"}
        assert job["steps"][0]["with"] == {"fetch-depth": 0, "persist-credentials": False}
        assert job["steps"][1]["with"] == {"python-version": pipeline.python}
        assert job["timeout-minutes"] in (30, 360)
        assert job["defaults"] == {"run": {"shell": "bash"}}
    assert [step["name"] for step in flow["jobs"]["plan"]["steps"][2:]] == ["install", "plan", "comment"]


@pytest.mark.parametrize("pipeline", VARIANTS, ids=lambda each: each.project)
def test_branch_state_and_pool_are_those_of_the_project(pipeline: Pipeline) -> None:
    flow = yaml.safe_load(render(pipeline))
    assert flow["name"] == f"bedplate {pipeline.project}"
    assert {event["branches"][0] for event in flow[True].values()} == {pipeline.branch}
    assert flow["env"] == {"BEDPLATE_STATE": f"${{{{ vars.BEDPLATE_STATE || '{pipeline.state}/{pipeline.project}' }}}}"}
    assert {job["runs-on"] for job in flow["jobs"].values()} == {f"${{{{ vars.BEDPLATE_POOL || '{pipeline.pool}' }}}}"}
    rolled = [step["name"] for step in flow["jobs"]["release"]["steps"] if step.get("if") == "failure()"]
    assert rolled == (["roll back"] if pipeline.endpoints else [])


def test_what_was_deployed_outlives_the_job() -> None:
    kept = [step["name"] for step in FLOW["jobs"]["release"]["steps"] if "RUNNER_TRACKING_ID" in step.get("env", {})]
    assert kept == ["deploy", "roll back"]


def test_a_comment_is_renewed_and_takes_its_number_from_the_environment() -> None:
    comment = FLOW["jobs"]["plan"]["steps"][-1]
    assert comment["run"].startswith('gh pr comment "$NUMBER"')
    assert "--edit-last --create-if-none" in comment["run"]
    assert comment["env"] == {"GH_TOKEN": "${{ github.token }}", "NUMBER": "${{ github.event.number }}"}
