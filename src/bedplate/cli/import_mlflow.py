"""`bedplate import mlflow`.

Does not know: how a store is read or written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder
from bedplate.cli.importing import show_brought, tell
from bedplate.flow.importing import bring
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.open import open_store


def import_mlflow(
    store: Annotated[str, typer.Argument(help="sqlite:///FILE, or the http:// URL of a server")],
    prefix: Annotated[str, typer.Option(help="put before the names of experiments and models")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring an MLflow store in: experiments, runs with every point, params, tags, artifacts, models, versions, aliases. Twice adds nothing.

    Example: bedplate import mlflow sqlite:///mlflow.db
    """
    with open_workspace(project) as workspace:
        opened = open_store(store, Path.cwd())
        try:
            show_brought(bring(workspace, opened, prefix, tell(as_json)), opened.identity, as_json)
        finally:
            opened.close()
