"""`bedplate keys list`.

Does not know: how a key is kept.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.flow.access import key_file
from bedplate.flow.workspace import open_workspace


def keys_list(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """The API keys of the project by name, without their secrets.

    Example: bedplate keys list
    """
    with open_workspace(project) as workspace:
        keys = key_file(workspace.state).listed()
        rows = [(key.name, "any" if key.rate is None else f"{key.rate:g}/s", key.made) for key in keys]
        show([asdict(key) for key in keys], table(("name", "rate", "made"), rows) if rows else "no keys; `bedplate keys add NAME`", as_json)
