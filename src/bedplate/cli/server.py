"""`bedplate server`: the loop in the background, and on one port what MLflow's clients speak to.

Does not know: what the loop does, or what a request is answered.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.hosting import LOOPBACK, Place, serve_project
from bedplate.flow.stopping import server_stop_requested
from bedplate.flow.workspace import open_workspace


def server(
    project: ProjectFolder = Path(),
    host: Annotated[str, typer.Option(help="the address to listen on; beyond loopback a token is needed")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="the port; 0: that of the last time if it is free, else any", min=0, max=65535)] = 0,
    token_file: Annotated[Path | None, typer.Option(help="a file with the token that clients must send (MLFLOW_TRACKING_TOKEN)")] = None,
    as_json: AsJson = False,
) -> None:
    """Host the loop of a project, and its tracking server, until `bedplate down` or Ctrl-C. Live runs and endpoints survive it.

    Example: bedplate server
    """
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with open_workspace(project) as workspace:
        name = workspace.project.name
        since = workspace.records.seq

        def begun(address: str) -> None:
            told = {"hosts": name, "pid": os.getpid(), "address": address}
            show(told, f"hosting the loop of {name}, and MLFLOW_TRACKING_URI={address}; `bedplate down` or Ctrl-C ends it", as_json)

        serve_project(
            workspace,
            Place(host, port, token_file),
            lambda: not ended.is_set() and not server_stop_requested(workspace, since),
            begun,
        )
