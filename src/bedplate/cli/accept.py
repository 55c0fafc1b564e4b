"""`bedplate accept`.

Does not know: how a decision is recorded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.moving import accept as declare
from bedplate.flow.workspace import open_workspace


def accept(
    step: Annotated[str, typer.Argument(help="a step of the plan")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Declare the present result of a step good though its declaration, code or inputs changed.

    Example: bedplate accept route_gain --reason "a comment changed, nothing else"
    """
    with open_workspace(project) as workspace:
        run = declare(workspace, step, reason)
        show({"step": step, "run": run}, f"{step} counts as made by {run}", as_json)
