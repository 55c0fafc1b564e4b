"""`bedplate rollback`.

Does not know: how a decision is recorded, or how an endpoint is brought to another version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.launch_view import finish, follow
from bedplate.flow.facts import serving
from bedplate.flow.moving import rollback as move_back
from bedplate.flow.workspace import open_workspace, request_launch


def rollback(
    model: Annotated[str, typer.Argument(help="a model of the project")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    to: Annotated[int | None, typer.Option(help="the number of a version", show_default="the one before")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Return a model's alias to the version before; endpoints that are up follow at once.

    Example: bedplate rollback delay --reason "7 is worse on the west coast"
    """
    with open_workspace(project) as workspace:
        version, left = move_back(workspace, model, reason, to)
        alias = workspace.project.spec.trained[model].promote.to
        endpoints = [name for name, each in workspace.project.spec.endpoints.items() if each.model.partition("@")[0] == model]
        running = [name for name in endpoints if serving(workspace, name)]
        told = {"version": version.ref, "from": left.ref, "alias": alias, "endpoints": running}
        if not (as_json and running):
            show(told, f"{model}@{alias} is {version.ref} again (it was {left.ref})", as_json)
        if not running:
            return 0
        launch = request_launch(workspace, "up", tuple(running), why=f"rollback of {model}: {reason}")
        return finish(workspace, follow(workspace, launch, as_json), f"bedplate up {' '.join(running)}", as_json, told)
