"""`bedplate data release`.

Does not know: how ingestion goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.data_versions import release
from bedplate.flow.workspace import open_workspace


def data_release(
    table: Annotated[str, typer.Argument(help="a dataset that was rolled back")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """End a rollback: the next run ingests again, a stream from where the version ended.

    Example: bedplate data release weather --reason "the broken rows are out of the file"
    """
    with open_workspace(project) as workspace:
        version = release(workspace, table, reason)
        text = f"{version.name} is no longer held at {version.ref}; go on with: bedplate run {version.name}"
        show({"table": version.name, "version": version.ref}, text, as_json)
