"""`bedplate explain`.

Does not know: why anything happened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.explaining import explain as tell
from bedplate.flow.workspace import open_workspace


def explain(
    name: Annotated[str, typer.Argument(help="a run or a step")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Why a run or step is as it is: what it waits for, why it ran, why it failed, and what would help.

    Example: bedplate explain train_delay
    """
    with open_workspace(project) as workspace:
        told = tell(workspace, name)
    width = max(map(len, told))
    plain = {heading: value.to_json() if heading == "goodput" else value for heading, value in told.items()}
    show(plain, "\n".join(f"{heading.ljust(width)}  {value}" for heading, value in told.items()), as_json)
