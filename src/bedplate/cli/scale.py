"""`bedplate scale`.

Does not know: how workers come and go.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.scaling import scale as request
from bedplate.flow.workspace import open_workspace


def scale(
    run: Annotated[str, typer.Argument(help="a live run, or a step for its newest run")],
    workers: Annotated[int, typer.Argument(help="how many workers it should have, within the job's range", min=1)],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Say how many workers a live elastic run should have. It goes on with them from its next step; nothing is lost.

    Example: bedplate scale train_delay 4
    """
    with open_workspace(project) as workspace:
        record, (least, most) = request(workspace, run, workers)
        told = {"run": record.id, "workers": workers, "least": least, "most": most}
        show(told, f"{record.id} is asked to go on with {workers} workers (from {least} to {most})", as_json)
