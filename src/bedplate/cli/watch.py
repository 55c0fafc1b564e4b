"""`bedplate watch`.

Does not know: when a trigger is due, or how a launch is driven.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder
from bedplate.cli.launch_view import LaunchView
from bedplate.core.clock import duration_s, iso
from bedplate.core.errors import BedplateError
from bedplate.core.project import load_project
from bedplate.core.record import LaunchRecord
from bedplate.flow.drive import drive
from bedplate.flow.watching import Watcher
from bedplate.flow.workspace import Workspace, open_workspace


def watch(
    once: Annotated[bool, typer.Option("--once", help="look once, drive what is due to its end, and end")] = False,
    poll: Annotated[str, typer.Option(help="the time between two looks")] = "10s",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Launch what became stale whenever a trigger of the project's `watch` says so, until Ctrl-C. With --once: 1 when a launch failed.

    Example: bedplate watch --once
    """
    with open_workspace(project) as workspace:
        if not workspace.project.spec.watch:
            fix = "add watch: {nightly: {at: '03:30'}} to bedplate.yaml, or changed: [data, code]"
            raise BedplateError("the project declares no trigger", value="watch", fix=fix)
        watcher, told = Watcher(workspace), set[str]()
        while True:
            well = _look(watcher, told, as_json)
            if once:
                return 0 if well else 1
            workspace.clock.sleep(duration_s(poll))
            _reload(workspace)


def _look(watcher: Watcher, told: set[str], as_json: bool) -> bool:
    """Fire and drive what is due; whether all of it went well. A trouble is told once, until it is another."""
    workspace = watcher.workspace
    for launch in watcher.unfinished():
        if _drive(workspace, launch, as_json)[1]:
            raise KeyboardInterrupt
    due, troubles = watcher.due()
    for trouble in set(troubles) - told:
        typer.echo(f"watch {trouble}", err=True)
    told.intersection_update(troubles)
    told.update(troubles)
    well = not troubles
    for each in due:
        launch = watcher.fire(each)
        if not as_json:
            typer.echo(f"{iso(workspace.clock.now())}  {each.trigger}: {each.why}  -> {launch}", err=True)
        ended, interrupted = _drive(workspace, launch, as_json)
        shown = {**asdict(each), "launch": launch, "status": ended.status, "message": ended.message}
        typer.echo(json.dumps(shown) if as_json else f"{launch} {ended.status}" + (f": {ended.message}" if ended.message else ""))
        if interrupted:
            raise KeyboardInterrupt
        well = well and ended.status == "done"
    return well


def _drive(workspace: Workspace, launch: str, as_json: bool) -> tuple[LaunchRecord, bool]:
    """The launch at its end, and whether Ctrl-C was pressed meanwhile: a launch may have ended well all the same."""
    view = LaunchView(workspace, launch, quiet=as_json)
    with view.shown():
        return drive(workspace, launch, view), view.interrupted


def _reload(workspace: Workspace) -> None:
    """See the project file as it is now. One that is broken for a moment changes nothing."""
    try:
        workspace.project = load_project(workspace.project.root, workspace.settings)
    except BedplateError as error:
        typer.echo(f"watch: {error.one_line()}", err=True)
