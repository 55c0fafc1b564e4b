"""`bedplate keys revoke`.

Does not know: how a key is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.access import key_file
from bedplate.flow.workspace import open_workspace


def keys_revoke(
    name: Annotated[str, typer.Argument(help="the key's name")],
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Take an API key back; endpoints that are up refuse it at once.

    Example: bedplate keys revoke website
    """
    with open_workspace(project) as workspace:
        key_file(workspace.state).revoke(name)
        show({"name": name, "revoked": True}, f"{name} is refused from now on", as_json)
