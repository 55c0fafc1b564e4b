"""`bedplate ledger backup`.

Does not know: how the ledger is stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.flow.workspace import open_workspace


def ledger_backup(
    target: Annotated[Path, typer.Argument(help="the file to write; it must not exist")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Copy the ledger while it may be written. To restore, stop everything and put the copy in its place.

    Example: bedplate ledger backup /mnt/backup/flights.db
    """
    if target.exists():
        raise BedplateError("the target exists", value=str(target), fix="name a new file")
    if not target.parent.is_dir():
        raise BedplateError("the folder of the target does not exist", value=str(target.parent), fix="make it, or name another")
    with open_workspace(project) as workspace:
        workspace.ledger.backup(target)
        events = workspace.records.seq
        show({"target": str(target), "events": events}, f"{events} events copied to {target}", as_json)
