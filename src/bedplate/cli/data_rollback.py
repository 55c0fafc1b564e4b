"""`bedplate data rollback`.

Does not know: how a table is brought back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.data_versions import SNAPSHOT, roll_back, roll_back_to
from bedplate.flow.workspace import open_workspace


def data_rollback(
    table: Annotated[str, typer.Argument(help="NAME for what it was before, NAME@VERSION, or snapshot:NAME for all tables")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring a dataset's table back to an earlier version, and hold it there until `bedplate data release`.

    Example: bedplate data rollback weather@golden --reason "the station of 7 November was broken"
    """
    with open_workspace(project) as workspace:
        if table.startswith(SNAPSHOT):
            moved = roll_back_to(workspace, table.removeprefix(SNAPSHOT), reason)
            told = [{"version": version.ref, "from": was.ref} for version, was in moved]
            lines = [f"{version.name} is {version.ref} again (it was {was.ref})" for version, was in moved]
            show(told, "\n".join(lines or ["every table is at that snapshot already"]), as_json)
            return
        version, was = roll_back(workspace, table, reason)
        text = f"{version.name} is {version.ref} again (it was {was.ref}), and stays there until: bedplate data release {version.name}"
        show({"version": version.ref, "from": was.ref}, text, as_json)
