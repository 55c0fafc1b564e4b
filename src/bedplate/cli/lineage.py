"""`bedplate lineage`.

Does not know: how a tree is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.lineage import lineage as find
from bedplate.flow.workspace import open_workspace


def lineage(
    name: Annotated[str, typer.Argument(help="an answer's id, a version (delay@production, departures@1) or a run")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The whole way back: served answer, endpoint, model, run, code, environment, features, table cuts, offsets, hardware, time.

    Example: bedplate lineage delay@production
    """
    with open_workspace(project) as workspace:
        node = find(workspace, name)
    show(node.to_json(), node.text(), as_json)
