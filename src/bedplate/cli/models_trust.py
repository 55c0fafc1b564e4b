"""`bedplate models trust`.

Does not know: which files are dangerous, or why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.moving import trust
from bedplate.flow.workspace import open_workspace


def models_trust(
    sha256: Annotated[str, typer.Argument(help="the SHA-256 of one file, as the refusal named it")],
    reason: Annotated[str, typer.Option(help="why it is safe; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Vouch for one file that could run code when it is loaded, a pickle as a rule. Only these very bytes, and audited.

    Example: bedplate models trust $(sha256sum model.pkl | cut -c-64) --reason "written by our own job fit-3"
    """
    with open_workspace(project) as workspace:
        trust(workspace, sha256, reason)
        show({"sha256": sha256, "reason": reason}, f"the file {sha256[:12]}... may be part of a model from here on", as_json)
