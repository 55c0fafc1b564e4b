"""`bedplate data tag`.

Does not know: what a tag means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.data_versions import tag
from bedplate.flow.workspace import open_workspace


def data_tag(
    version: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for what the table is now")],
    name: Annotated[str, typer.Argument(help="the tag: a word")],
    move: Annotated[bool, typer.Option("--move", help="let a tag that is there point to this version")] = False,
    reason: Annotated[str, typer.Option(help="why; it is recorded, and needed to move a tag")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Name a version of a table; a tag stays where it is, unless it is moved with a reason.

    Example: bedplate data tag weather@7 golden
    """
    with open_workspace(project) as workspace:
        tagged = tag(workspace, version, name, reason, move)
        show({"version": tagged.ref, "tag": name}, f"{tagged.name}@{name} is {tagged.ref}", as_json)
