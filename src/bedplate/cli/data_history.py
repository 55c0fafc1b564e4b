"""`bedplate data history`.

Does not know: the table format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.clock import iso
from bedplate.core.errors import NotFound, nearest
from bedplate.data.lake import Lake
from bedplate.flow.workspace import open_workspace


def data_history(
    name: Annotated[str, typer.Argument(help="a table of the lake, for example a dataset or its quarantine")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The versions of a table: every commit, and the cuts that runs have used.

    Example: bedplate data history departures
    """
    with open_workspace(project) as workspace:
        lake = Lake(workspace.state / "lake")
        if name not in lake.names():
            raise NotFound("no such table", value=name, fix=nearest(name, lake.names()))
        commits = lake.history(name)
        cuts = workspace.records.versions.get(name, [])
        cut_at = {version.meta["table_version"]: version.ref for version in cuts if version.kind == "table"}
        rows = [(c.version, iso(c.at_s), c.operation, c.rows, c.offsets, cut_at.get(c.version, "")) for c in commits]
        values = [
            {
                "version": c.version,
                "at": iso(c.at_s),
                "operation": c.operation,
                "rows": c.rows,
                "offsets": c.offsets,
                "cut": cut_at.get(c.version),
            }
            for c in commits
        ]
        show(values, table(("version", "at", "operation", "rows", "offsets", "cut"), rows), as_json)
