"""`bedplate ci back`.

Does not know: how an alias moves.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import NotFound
from bedplate.flow.pipeline import back
from bedplate.flow.workspace import open_workspace


def ci_back(
    file: Annotated[Path, typer.Argument(help="what `bedplate ci mark` wrote")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Return every alias that moved since the mark to where it was. An alias that did not move is left alone.

    Example: bedplate ci back before.json --reason "the canary failed"
    """
    if not file.is_file():
        raise NotFound("no such mark", value=str(file), fix="write one first: bedplate ci mark --out before.json")
    with open_workspace(project) as workspace:
        found = back(workspace, json.loads(file.read_bytes()), reason)
    lines = [
        f"{each.model} is {each.version} again (it was {each.left})" if not each.why else f"{each.model}: {each.why}" for each in found
    ]
    show([asdict(each) for each in found], "\n".join(lines) or "no alias moved since the mark", as_json)
