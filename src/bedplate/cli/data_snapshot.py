"""`bedplate data snapshot`.

Does not know: what is pinned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.atomic import write_json
from bedplate.flow.snapshots import take
from bedplate.flow.workspace import open_workspace


def data_snapshot(
    name: Annotated[str, typer.Argument(help="the snapshot's name: a word")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")] = "",
    out: Annotated[Path | None, typer.Option(help="write the manifest to this file, too")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Pin the versions of all tables, feature views and files of the project, under one name.

    Example: bedplate data snapshot before-the-move --out manifest.json
    """
    with open_workspace(project) as workspace:
        taken = take(workspace, name, reason)
        if out is not None:
            write_json(out, taken.to_json())
        pinned = "\n".join(f"  {each['version']}" for each in taken.pinned.values())
        stale = f"\nnot up to date, so not pinned: {', '.join(taken.stale)}" if taken.stale else ""
        show(taken.to_json(), f"snapshot {name} ({taken.digest[:12]}) pins\n{pinned}{stale}", as_json)
