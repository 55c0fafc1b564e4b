"""`bedplate models tag`.

Does not know: what a tag means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, parse_pairs, show
from bedplate.flow.moving import tag
from bedplate.flow.workspace import open_workspace


def models_tag(
    version: Annotated[str, typer.Argument(help="NAME@NUMBER, or NAME@ALIAS")],
    tags: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="the name of a tag to take away")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Set tags of a version, or take them away. Tags decide nothing: aliases do.

    Example: bedplate models tag delay@7 region=west --remove trial
    """
    with open_workspace(project) as workspace:
        changed: dict[str, str | None] = {**parse_pairs(tags or [], "a tag"), **dict.fromkeys(remove or [])}
        tagged = tag(workspace, version, changed)
        known = workspace.records.tagged.get(tagged.ref, {})
        text = f"{tagged.ref}: {' '.join(f'{name}={value}' for name, value in known.items()) or 'no tags'}"
        show({"version": tagged.ref, "tags": known}, text, as_json)
