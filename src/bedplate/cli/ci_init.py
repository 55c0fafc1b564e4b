"""`bedplate ci init`.

Does not know: what a pipeline does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.flow.pipeline import pipeline_of
from bedplate.flow.workspace import open_workspace
from bedplate.models.ci import github, gitlab
from bedplate.models.ci.stages import Pipeline

PROVIDERS: Mapping[str, tuple[str, Callable[[Pipeline], str]]] = {
    "github": (github.PATH, github.render),
    "gitlab": (gitlab.PATH, gitlab.render),
}


def ci_init(
    provider: Annotated[str, typer.Option(help="github or gitlab")] = "github",
    branch: Annotated[str, typer.Option(help="the branch that is deployed")] = "main",
    pool: Annotated[str, typer.Option(help="label of the runners that train and serve")] = "self-hosted",
    state: Annotated[str, typer.Option(help="folder on the runners that keeps the ledger")] = "/var/lib/bedplate",
    replace: Annotated[bool, typer.Option("--replace", help="write over a pipeline that is there")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a pipeline: the plan as a comment on a change, then train, gate, deploy, canary, and roll back when that fails.

    Example: bedplate ci init --provider github --pool gpu-pool
    """
    if provider not in PROVIDERS:
        raise NotFound("no such provider", value=provider, fix=nearest(provider, PROVIDERS))
    for name, value in (("--branch", branch), ("--pool", pool), ("--state", state)):
        if not value or not set(value) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-"):
            raise BedplateError(f"{name} must be a plain name", value=value, fix="use letters, digits, '.', '_', '-' and '/'")
    place, render = PROVIDERS[provider]
    with open_workspace(project) as workspace:
        target = workspace.project.root / place
        if target.exists() and not replace:
            raise BedplateError("a pipeline is there already", value=str(target), fix="add --replace to write over it")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, render(pipeline_of(workspace, branch, pool, state)).encode())
    show(
        {"provider": provider, "file": str(target)}, f"wrote {place}\n\nnext: commit it, and start a runner with the label {pool}", as_json
    )
