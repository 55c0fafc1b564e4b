"""`bedplate server`: the loop in the background. Pages and HTTP routes are mounted here when their rooms exist.

Does not know: what the loop does.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

import typer

from bedplate.cli.command import ProjectFolder
from bedplate.flow.drive import serve_loop
from bedplate.flow.stopping import server_stop_requested
from bedplate.flow.workspace import open_workspace


def server(project: ProjectFolder = Path()) -> None:
    """Host the loop of a project until `bedplate down` or Ctrl-C. Live runs and endpoints survive it.

    Example: bedplate server
    """
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with open_workspace(project) as workspace:
        typer.echo(f"hosting the loop of {workspace.project.name}; `bedplate down` or Ctrl-C ends it")
        since = workspace.records.seq
        serve_loop(workspace, lambda: not ended.is_set() and not server_stop_requested(workspace, since))
