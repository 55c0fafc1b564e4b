"""`bedplate checkpoint export`.

Does not know: where a checkpoint lies, or how files are laid out.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.flow.exporting import export
from bedplate.flow.workspace import open_workspace

SHARD_MB = 5120


def checkpoint_export(
    name: Annotated[
        str, typer.Argument(help="RUN or STEP for the newest checkpoint, RUN@NUMBER for one of a training step, or MODEL@VERSION")
    ],
    folder: Annotated[Path, typer.Argument(help="the folder to write; it must not exist")],
    config: Annotated[Path | None, typer.Option(help="a JSON file that becomes config.json")] = None,
    shard_mb: Annotated[int, typer.Option(help="the largest size of one file, in MiB", min=1)] = SHARD_MB,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """Write weights as safetensors in the layout of the Hugging Face Hub. Every byte is verified, and the folder appears whole.

    Example: bedplate checkpoint export train_delay-3@400 exported/delay
    """
    values = _config(config)
    with open_workspace(project) as workspace:
        exported = export(workspace, name, folder, values, shard_mb << 20, _told)
    if sys.stderr.isatty():
        typer.echo(err=True)
    total = sum(exported.files.values())
    show(asdict(exported), f"{exported.source} is in {folder}: {len(exported.files)} file(s), {total} bytes", as_json)


def _told(done: int, total: int) -> None:
    """One line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r{done / 2**20:.0f} of {total / 2**20:.0f} MiB", nl=False, err=True)


def _config(path: Path | None) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] | None = None if path is None else json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BedplateError("the config cannot be read", value=str(path), fix=f"name a JSON file: {error}") from error
    return found
