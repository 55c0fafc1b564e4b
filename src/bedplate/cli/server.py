"""`bedplate server`: the loop in the background. Pages and HTTP routes are mounted here when their rooms exist.

Does not know: what the loop does.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.drive import serve_loop
from bedplate.flow.stopping import server_stop_requested
from bedplate.flow.workspace import open_workspace


def server(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """Host the loop of a project until `bedplate down` or Ctrl-C. Live runs and endpoints survive it.

    Example: bedplate server
    """
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with open_workspace(project) as workspace:
        name = workspace.project.name
        told = {"hosts": name, "pid": os.getpid()}
        since = workspace.records.seq
        serve_loop(
            workspace,
            lambda: not ended.is_set() and not server_stop_requested(workspace, since),
            lambda: show(told, f"hosting the loop of {name}; `bedplate down` or Ctrl-C ends it", as_json),
        )
