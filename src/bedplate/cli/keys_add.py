"""`bedplate keys add`.

Does not know: how a key is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.access import key_file
from bedplate.flow.workspace import open_workspace


def keys_add(
    name: Annotated[str, typer.Argument(help="who will ask with it")],
    rate: Annotated[float | None, typer.Option(help="how many requests a second it may make of each replica; none: any")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Make an API key for the project's endpoints that are declared with `keys: required`. It is shown once and kept as a digest.

    Example: bedplate keys add website --rate 50
    """
    with open_workspace(project) as workspace:
        text = key_file(workspace.state).add(name, rate, workspace.clock)
        show({"name": name, "rate": rate, "key": text}, f"{text}\n\nsend it as: Authorization: Bearer KEY; it is not shown again", as_json)
