"""`bedplate data vacuum`.

Does not know: what holds on to a version.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.vacuuming import Expiry, expiring, vacuum
from bedplate.flow.workspace import open_workspace


def data_vacuum(
    table: Annotated[str | None, typer.Argument(help="a dataset", show_default="all that declare a retention")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it, only say what would go")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Apply the declared `retention`: versions that go, what holds on to others, and the bytes. Deletes with --yes only.

    Example: bedplate data vacuum weather --yes
    """
    with open_workspace(project) as workspace:
        found = vacuum(workspace, table) if yes else expiring(workspace, table)
        lines = [line for each in found for line in _lines(each, yes)]
        show([asdict(each) for each in found], "\n".join(lines or ["no dataset declares a retention"]), as_json)


def _lines(found: Expiry, done: bool) -> list[str]:
    went = ", ".join(found.going) or "no version"
    said = f"{found.table}: {went} {'went' if done else 'would go'}, {found.files} files, {found.size_bytes} bytes"
    return [said, *(f"  {ref} stays: {', '.join(why)}" for ref, why in found.held.items())]
