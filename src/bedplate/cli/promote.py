"""`bedplate promote`.

Does not know: how a decision is recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.moving import promote as move
from bedplate.flow.workspace import open_workspace


def promote(
    version: Annotated[str, typer.Argument(help="the version, as NAME@NUMBER; an older one rolls back")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Move a model's alias by hand. `bedplate up` then serves that version.

    Example: bedplate promote delay@6 --reason "7 is worse on the west coast"
    """
    with open_workspace(project) as workspace:
        moved = move(workspace, version, reason)
        alias = workspace.project.spec.trained[moved.name].promote.to
        show({"version": moved.ref, "alias": alias}, f"{moved.name}@{alias} is {moved.ref} now\n\nnext: bedplate up", as_json)
