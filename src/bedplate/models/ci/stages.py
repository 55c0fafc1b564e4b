"""What a pipeline of a project does, as shell scripts that need only `bash`, `git` and Python; the same for every provider.

A value of the provider (a branch, a commit, a secret) comes in the environment and is never written into a script.
Does not know: how a provider is told to run them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

MARK = ".bedplate-ci/before.json"
COMMENT = ".bedplate-ci/plan.md"


@dataclass(frozen=True)
class Pipeline:
    """What is rendered: a project's `jobs` that train, its `models` and `endpoints`, the `branch` that is deployed.

    `pool` is the label of the runners that train and deploy; `state` the folder there that keeps the ledger between runs.
    """

    project: str
    jobs: tuple[str, ...]
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    branch: str = "main"
    pool: str = "self-hosted"
    state: str = "/var/lib/bedplate"
    python: str = "3.11"


@dataclass(frozen=True)
class Stage:
    """One script: `on` says when it runs ("" after success, `failure` after a failure of one before it)."""

    name: str
    script: str
    on: str = ""


def plan_stages() -> tuple[Stage, ...]:
    """What a pull request gets: the plan, and the models' metrics against production. Starts nothing."""
    return (_install(), Stage("plan", f"mkdir -p .bedplate-ci\nbedplate ci comment --out {COMMENT}\n"))


def release_stages(pipeline: Pipeline) -> tuple[Stage, ...]:
    """What the deployed branch gets: train, gate, deploy, canary, and the way back when what was deployed fails."""
    stages = [_install(), _key(), Stage("mark", f"mkdir -p .bedplate-ci\nbedplate ci mark --out {MARK}\n")]
    if pipeline.jobs:
        stages.append(Stage("train", f"bedplate run {_words(pipeline.jobs)}\n"))
    if pipeline.models:
        stages.append(Stage("gate", f"bedplate up {_words(pipeline.models)}\n"))
    if pipeline.endpoints:
        checks = "".join(f"bedplate ci canary {shlex.quote(name)} --requests 20\n" for name in pipeline.endpoints)
        stages += [Stage("deploy", f"bedplate up {_words(pipeline.endpoints)}\n"), Stage("canary", checks)]
        stages.append(_roll_back(pipeline))
    return tuple(stages)


def _install() -> Stage:
    return Stage(
        "install",
        "if ! command -v bedplate > /dev/null; then\n"
        "  if [ -f requirements.txt ]; then python -m pip install --quiet --requirement requirements.txt; fi\n"
        "  command -v bedplate > /dev/null || python -m pip install --quiet 'bedplate[torch]'\n"
        "fi\n"
        "bedplate --version\n",
    )


def _key() -> Stage:
    """The key that signs decisions: the pipeline's secret where there is one, else the runner's own, made on first use."""
    return Stage(
        "signing key",
        'home="${BEDPLATE_HOME:-$HOME/.bedplate}"\n'
        'if [ -n "${BEDPLATE_SIGNING_KEY:-}" ] && [ ! -f "$home/keys/signing.pem" ]; then\n'
        '  (umask 077 && mkdir -p "$home/keys" && printf \'%s\\n\' "$BEDPLATE_SIGNING_KEY" > "$home/keys/signing.pem")\n'
        "fi\n"
        "bedplate audit key\n",
    )


def _roll_back(pipeline: Pipeline) -> Stage:
    """The aliases as they were, and the endpoints with the code that was deployed before, where the provider names that commit."""
    return Stage(
        "roll back",
        f'bedplate ci back {MARK} --reason "the canary failed in ${{CI_RUN:-a pipeline}}"\n'
        'if [ -n "${BEFORE:-}" ] && git cat-file -e "$BEFORE^{commit}" 2> /dev/null; then git checkout --quiet --detach "$BEFORE"; fi\n'
        f"bedplate up {_words(pipeline.endpoints)}\n",
        on="failure",
    )


def _words(names: Sequence[str]) -> str:
    return shlex.join(names)
