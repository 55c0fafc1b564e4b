"""`bedplate export mlflow`.

Does not know: how a store is written.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.cli.importing import tell
from bedplate.flow.tracked import tracked
from bedplate.flow.workspace import open_workspace
from bedplate.models.engines.mlflow_server import served
from bedplate.models.foreign.mlflow_write import RestWriter


def export_mlflow(
    store: Annotated[str, typer.Argument(help="the http:// URL of a server, or sqlite:///FILE")],
    python: Annotated[str | None, typer.Option(help="for a file: an interpreter with mlflow", show_default="this one")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Write runs, every point, artifacts and the registry to MLflow. Done again, it goes on where it ended.

    Example: bedplate export mlflow http://127.0.0.1:5000
    """
    with open_workspace(project) as workspace, tracked(workspace) as source, served(store, python) as url:
        writer = RestWriter(url)
        try:
            written = writer.write(source, tell(as_json))
        finally:
            writer.store.close()
        new = f"{written.runs} runs with {written.points} points and {written.files} files, {written.versions} versions of models"
        show(asdict(written), f"{store}: {new}; {written.known} were there already", as_json)
