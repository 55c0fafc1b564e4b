"""The pipeline as a workflow of GitHub Actions.

Permissions are the least that each job needs; actions are pinned by version; secrets and variables are named, never written; no expression
of the event stands in a script, where a branch's name could become a command.
Does not know: what the scripts do (`stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from bedplate.models.ci.stages import COMMENT, Pipeline, Stage, plan_stages, release_stages

PATH = ".github/workflows/bedplate.yml"
CHECKOUT = "actions/checkout@v4.2.2"
PYTHON = "actions/setup-python@v5.6.0"

_HEAD = """\
# Written by `bedplate ci init`; yours to change.
# A pull request gets the plan as a comment. {branch} is trained, judged, deployed and checked; what fails its check is rolled back.
# Variables: BEDPLATE_POOL (label of the runners that train and serve), BEDPLATE_STATE (a folder on them that keeps the ledger).
# Secrets: BEDPLATE_SIGNING_KEY (optional: signs the decisions; without it the runner's own key does).
name: bedplate {project}
on:
  pull_request:
    branches: ["{branch}"]
  push:
    branches: ["{branch}"]
permissions:
  contents: read
concurrency:
  group: bedplate-${{{{ github.event_name == 'pull_request' && github.ref || 'release' }}}}
  cancel-in-progress: ${{{{ github.event_name == 'pull_request' }}}}
env:
  BEDPLATE_STATE: ${{{{ vars.BEDPLATE_STATE || '{state}/{project}' }}}}
jobs:
"""

_JOB = """\
  {name}:
    if: {condition}
    runs-on: ${{{{ vars.BEDPLATE_POOL || '{pool}' }}}}
    timeout-minutes: {minutes}
    permissions:
{permissions}{environment}    defaults:
      run:
        shell: bash
    steps:
      - uses: {checkout}
        with:
          fetch-depth: 0
          persist-credentials: false
      - uses: {setup}
        with:
          python-version: "{python}"
"""

_NO_FORKS = "github.event_name == 'pull_request' && github.event.pull_request.head.repo.full_name == github.repository"
_SEND = f"""\
gh pr comment "$NUMBER" --repo "$GITHUB_REPOSITORY" --edit-last --create-if-none --body-file {COMMENT}
"""


def render(pipeline: Pipeline) -> str:
    """The workflow, as YAML."""
    head = _HEAD.format(project=pipeline.project, branch=pipeline.branch, state=pipeline.state)
    sent = _step(Stage("comment", _SEND), {"GH_TOKEN": "github.token", "NUMBER": "github.event.number"})
    plan = _job("plan", pipeline, _NO_FORKS, {"contents": "read", "pull-requests": "write"}, 30)
    release = _job("release", pipeline, "github.event_name == 'push'", {"contents": "read"}, 360, "production")
    return head + plan + _steps(plan_stages()) + sent + release + _steps(release_stages(pipeline))


def _job(name: str, pipeline: Pipeline, condition: str, permissions: dict[str, str], minutes: int, environment: str = "") -> str:
    return _JOB.format(
        name=name,
        condition=condition,
        pool=pipeline.pool,
        minutes=minutes,
        permissions="".join(f"      {what}: {access}\n" for what, access in permissions.items()),
        environment=f"    environment: {environment}\n" if environment else "",
        checkout=CHECKOUT,
        setup=PYTHON,
        python=pipeline.python,
    )


def _steps(stages: Sequence[Stage]) -> str:
    needs = {
        "signing key": {"BEDPLATE_SIGNING_KEY": "secrets.BEDPLATE_SIGNING_KEY"},
        "roll back": {"BEFORE": "github.event.before", "CI_RUN": "github.run_id"},
    }
    return "".join(_step(stage, needs.get(stage.name, {})) for stage in stages)


def _step(stage: Stage, environment: dict[str, str]) -> str:
    lines = [f"      - name: {stage.name}\n"]
    if stage.on == "failure":
        lines.append("        if: failure()\n")
    values = {name: f"${{{{ {value} }}}}" for name, value in environment.items()}
    if stage.name in ("deploy", "roll back"):
        values["RUNNER_TRACKING_ID"] = '""  # else the runner ends the endpoint with the job'
    if values:
        lines.append("        env:\n" + "".join(f"          {name}: {value}\n" for name, value in values.items()))
    return "".join(lines) + "        run: |\n" + indent(stage.script, " " * 10)
