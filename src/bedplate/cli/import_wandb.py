"""`bedplate import wandb`.

Does not know: how a run file is read or written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder
from bedplate.cli.importing import show_brought, tell
from bedplate.flow.importing import bring
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.wandb import WandbStore


def import_wandb(
    folder: Annotated[Path, typer.Argument(help="a `wandb` folder, or one offline-run-* in it")],
    prefix: Annotated[str, typer.Option(help="put before the names of experiments")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Bring the offline runs of Weights & Biases in: config, every point, system metrics, summary, files. Twice adds nothing.

    Example: bedplate import wandb wandb
    """
    with open_workspace(project) as workspace:
        opened = WandbStore(folder)
        show_brought(bring(workspace, opened, prefix, tell(as_json)), opened.identity, as_json)
