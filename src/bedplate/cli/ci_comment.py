"""`bedplate ci comment`.

Does not know: how a provider is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.atomic import write_bytes
from bedplate.flow.pipeline import comment
from bedplate.flow.workspace import open_workspace


def ci_comment(
    out: Annotated[Path | None, typer.Option(help="a file to write it to")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What would run, how long that took, and each model's metrics against production, as Markdown. Starts nothing.

    Example: bedplate ci comment --out plan.md
    """
    with open_workspace(project) as workspace:
        text = comment(workspace)
    if out is not None:
        write_bytes(out, text.encode())
    show({"markdown": text}, text.rstrip(), as_json)
