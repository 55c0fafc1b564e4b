"""`bedplate up`.

Does not know: how a launch is driven or shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, command_line
from bedplate.cli.detach import detach
from bedplate.cli.launch_view import finish, follow
from bedplate.flow.planner import steps_for
from bedplate.flow.workspace import open_workspace, request_launch


def up(
    targets: Annotated[list[str] | None, typer.Argument(help="what to bring up; none: everything declared")] = None,
    force: Annotated[list[str] | None, typer.Option("--force", help="a step to run though it is up to date")] = None,
    detached: Annotated[bool, typer.Option("--detach", help="leave it running in the background")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Bring up everything declared: data, features, jobs, the gate, endpoints. Endpoints stay up until `bedplate down`.

    Example: bedplate up
    """
    with open_workspace(project) as workspace:
        steps_for(workspace.project.spec, [*(targets or []), *(force or [])])
        launch = request_launch(workspace, "up", tuple(targets or ()), tuple(force or ()))
        if detached:
            return detach(workspace, launch, as_json)
        again = command_line("up", targets or [], {"--force": force})
        return finish(workspace, follow(workspace, launch, as_json), again, as_json)
