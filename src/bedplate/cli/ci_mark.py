"""`bedplate ci mark`.

Does not know: what happens between the mark and the way back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.atomic import write_json
from bedplate.flow.pipeline import mark
from bedplate.flow.workspace import open_workspace


def ci_mark(
    out: Annotated[Path, typer.Option(help="the file for `bedplate ci back`")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Note to which version every model's alias points now, so that `bedplate ci back` can return to it.

    Example: bedplate ci mark --out before.json
    """
    with open_workspace(project) as workspace:
        found = mark(workspace)
    write_json(out, found)
    show(found, "\n".join(f"{name}@{number}" if number else f"{name}: none yet" for name, number in found.items()), as_json)
