"""`bedplate models list`.

Does not know: how versions are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.errors import NotFound, nearest
from bedplate.flow.registry import listed
from bedplate.flow.workspace import open_workspace


def models_list(
    model: Annotated[str | None, typer.Argument(help="one model only")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The versions of models: where each comes from, the aliases that point to it, its tags; removed ones too, with the reason.

    Example: bedplate models list delay
    """
    with open_workspace(project) as workspace:
        rows = listed(workspace)
        names = {row["model"] for row in rows}
        if model is not None and model not in names:
            raise NotFound("no version of that model", value=model, fix=nearest(model, names))
        found = [row for row in rows if model in (None, row["model"])]
        cells = [
            (row["version"], ", ".join(row["aliases"]), row["from"], row["license"] or "", row["created_at"], _state(row)) for row in found
        ]
        text = table(("version", "aliases", "from", "license", "created", "state"), cells) if cells else "no model has a version yet"
        show(found, text, as_json)


def _state(row: dict[str, object]) -> str:
    if row["removed"]:
        return f"removed: {row['removed']}"
    tags = row["tags"]
    assert isinstance(tags, dict)
    return " ".join(f"{name}={value}" for name, value in tags.items())
