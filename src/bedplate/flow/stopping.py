"""Bringing a project down: every live run and endpoint is asked to stop, then the server.

Does not know: how a run stops (the loop tells its engine).
"""

from __future__ import annotations

from collections.abc import Callable

from bedplate.core.event import Draft
from bedplate.flow.drive import is_hosted, settle
from bedplate.flow.watch import Progress
from bedplate.flow.workspace import Workspace, request_stop

SERVER = "server"


def bring_down(workspace: Workspace, observer: Callable[[list[Progress]], None]) -> list[str]:
    """Stop everything that lives; returns the ids of the runs that ended. Harmless when nothing lives."""
    for launch in workspace.refresh().open_launches():
        payload = {"status": "stopped", "message": "brought down"}
        workspace.ledger.append([Draft("launch.finished", launch.id, payload, key=f"{launch.id}/finished")])
    live = [run.id for run in workspace.refresh().live()]
    request_stop(workspace, tuple(live), "stop", "bedplate down")
    settle(workspace, live, observer)
    if is_hosted(workspace):
        workspace.ledger.append([Draft("stop.requested", SERVER, {"how": "stop", "why": "bedplate down"})])
    return live


def server_stop_requested(workspace: Workspace, since: int) -> bool:
    """Whether somebody asked the server to stop after event `since`, and nothing lives any more."""
    asked = any(event.kind == "stop.requested" and event.subject == SERVER for event in workspace.ledger.read(since))
    return asked and not workspace.records.live()
