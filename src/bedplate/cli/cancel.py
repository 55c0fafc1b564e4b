"""`bedplate cancel`.

Does not know: how a run is ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.drive import settle
from bedplate.flow.workspace import open_workspace, request_stop


def cancel(
    run: Annotated[str, typer.Argument(help="a run, or a step for its newest run")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """End a run at once, without a checkpoint. One that has ended is left as it is.

    Example: bedplate cancel train_delay-3
    """
    with open_workspace(project) as workspace:
        record = workspace.records.run(run)
        if not record.ended:
            request_stop(workspace, (record.id,), "cancel", "bedplate cancel")
            settle(workspace, [record.id], lambda _: None)
        record = workspace.refresh().runs[record.id]
        show(record.to_json(), f"{record.id} {record.status}", as_json)
