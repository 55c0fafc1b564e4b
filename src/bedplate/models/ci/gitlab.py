"""The pipeline as GitLab's.

Secrets and variables are named, never written; a script takes the commit and the request's number from GitLab's own variables.
Does not know: what the scripts do (`stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from bedplate.models.ci.stages import COMMENT, Pipeline, Stage, plan_stages, release_stages

PATH = ".gitlab-ci.yml"

_HEAD = """\
# Written by `bedplate ci init`; yours to change.
# A merge request gets the plan as a note. {branch} is trained, judged, deployed and checked; what fails its check is rolled back.
# Variables, masked and protected: BEDPLATE_GITLAB_TOKEN (scope api, writes the note), BEDPLATE_SIGNING_KEY (optional: signs decisions).
stages: [plan, release]
variables:
  BEDPLATE_STATE: {state}/{project}
  GIT_DEPTH: "0"
default:
  tags: [{pool}]
  interruptible: false
"""

_PLAN = """\
plan:
  stage: plan
  timeout: 30 minutes
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  script:
"""

_RELEASE = """\
release:
  stage: release
  timeout: 6 hours
  environment: production
  resource_group: production
  rules:
    - if: $CI_PIPELINE_SOURCE == "push" && $CI_COMMIT_BRANCH == "{branch}"
  script:
"""

_SEND = f"""\
curl --fail --silent --show-error --output /dev/null --header "PRIVATE-TOKEN: $BEDPLATE_GITLAB_TOKEN" \\
  --data-urlencode "body@{COMMENT}" "$CI_API_V4_URL/projects/$CI_PROJECT_ID/merge_requests/$CI_MERGE_REQUEST_IID/notes"
"""


def render(pipeline: Pipeline) -> str:
    """The pipeline, as YAML."""
    head = _HEAD.format(project=pipeline.project, branch=pipeline.branch, state=pipeline.state, pool=pipeline.pool)
    plan = _PLAN + _items((*plan_stages(), Stage("comment", _SEND)))
    return head + plan + _RELEASE.format(branch=pipeline.branch) + _release(release_stages(pipeline))


def _release(stages: Sequence[Stage]) -> str:
    """A job of GitLab ends with the first script that fails, so the way back is in `after_script`, which always runs."""
    back = [stage for stage in stages if stage.on == "failure"]
    items = _items([stage for stage in stages if stage.on != "failure"])
    if not back:
        return items
    guarded = 'if [ "$CI_JOB_STATUS" = failed ]; then\n' + indent("".join(stage.script for stage in back), "  ") + "fi\n"
    named = 'export BEFORE="${CI_COMMIT_BEFORE_SHA:-}" CI_RUN="${CI_PIPELINE_ID:-}"\n'
    return items + "  after_script:\n" + _item("roll back", "set -eo pipefail\n" + named + guarded)


def _items(stages: Sequence[Stage]) -> str:
    return "".join(_item(stage.name, stage.script) for stage in stages)


def _item(name: str, script: str) -> str:
    return f"    # {name}\n    - |\n" + indent(script, " " * 6)
