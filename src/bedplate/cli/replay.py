"""`bedplate replay`.

Does not know: how a run is done again or compared.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.errors import BedplateError
from bedplate.flow.replaying import replay as run_again
from bedplate.flow.workspace import open_workspace


def replay(
    run: Annotated[str, typer.Argument(help="a run that succeeded, or a step: its newest")],
    here: Annotated[bool, typer.Option("--here", help="with the project's code as it is now, not as the run had it")] = False,
    keep: Annotated[Path | None, typer.Option(help="a new folder for what the replay writes; else it is deleted")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Run a run again from its record, and say whether data, code, environment and results agree. Nothing is recorded or moved.

    Example: bedplate replay train_delay-3
    """
    if keep is not None and keep.exists():
        raise BedplateError("the folder to keep a replay in is there already", value=str(keep), fix="name a new one")
    with open_workspace(project) as workspace, tempfile.TemporaryDirectory(prefix="bedplate-replay-") as scratch:
        found = run_again(workspace, run, (keep or Path(scratch) / "replay").resolve(), here)
        show(found.to_json(), found.text(), as_json)
        return 0 if found.agrees else 1
