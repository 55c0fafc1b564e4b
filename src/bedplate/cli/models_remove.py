"""`bedplate models remove`.

Does not know: what uses a version, or how its bytes are deleted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.moving import remove
from bedplate.flow.workspace import open_workspace


def models_remove(
    version: Annotated[str, typer.Argument(help="the version, as NAME@NUMBER")],
    reason: Annotated[str, typer.Option(help="why; it is recorded")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Delete the bytes of a version for good; its record stays. Refused while an alias, an endpoint or a run uses it.

    Example: bedplate models remove delay@3 --reason "trained on data that we must not use"
    """
    with open_workspace(project) as workspace:
        removed, freed = remove(workspace, version, reason)
        show({"version": removed.ref, "bytes": freed, "reason": reason}, f"{removed.ref} is removed, {freed} bytes", as_json)
