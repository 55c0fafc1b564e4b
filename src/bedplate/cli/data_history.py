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
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import open_workspace


def data_history(
    name: Annotated[str, typer.Argument(help="a table of the lake, for example a dataset or its quarantine")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The versions of a table: every commit, the cuts that runs have used, and the tags that point to them.

    Example: bedplate data history departures
    """
    with open_workspace(project) as workspace:
        lake = lake_of(workspace)
        if name not in lake.names():
            raise NotFound("no such table", value=name, fix=nearest(name, lake.names()))
        commits = lake.history(name)
        cuts = workspace.records.versions.get(name, [])
        cut_at = {version.meta["table_version"]: version.ref for version in cuts if version.kind == "table"}
        tags: dict[str, list[str]] = {}
        for tagged, said in workspace.records.pointed.items():
            tags.setdefault(f"{tagged.partition('@')[0]}@{said['version']}", []).append(tagged.partition("@")[2])
        rows = [
            (c.version, iso(c.at_s), c.operation, c.rows, c.offsets, cut := cut_at.get(c.version, ""), " ".join(tags.get(cut, [])))
            for c in commits
        ]
        values = [
            {
                "version": c.version,
                "at": iso(c.at_s),
                "operation": c.operation,
                "rows": c.rows,
                "offsets": c.offsets,
                "cut": cut_at.get(c.version),
                "tags": tags.get(cut_at.get(c.version, ""), []),
            }
            for c in commits
        ]
        show(values, table(("version", "at", "operation", "rows", "offsets", "cut", "tags"), rows), as_json)
