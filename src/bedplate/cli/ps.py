"""`bedplate ps`.

Does not know: how progress is followed.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show, table
from bedplate.core.clock import human_duration
from bedplate.core.record import RunRecord
from bedplate.flow.facts import run_is_alive
from bedplate.flow.watch import Progress, Watch
from bedplate.flow.workspace import open_workspace


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="ended runs too")] = False,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """What is running, and what ran last.

    Example: bedplate ps --all
    """
    with open_workspace(project) as workspace:
        moments = {moment.run: moment for moment in Watch(workspace).progress()}
        now_s = workspace.clock.now()
        runs = [run for run in workspace.records.runs.values() if everything or not (run.ended or run.kind == "logged")]
        rows = [_row(run, moments.get(run.id), now_s) for run in runs]
        text = (
            table(("run", "kind", "status", "for", "progress"), rows) if rows else "nothing is running; `bedplate ps --all` shows what ran"
        )
        values = [{**run.to_json(), "progress": asdict(moments[run.id]) if run.id in moments else None} for run in runs]
        show(values, text, as_json)


def _row(run: RunRecord, moment: Progress | None, now_s: float) -> tuple[str, ...]:
    status = run.status if run.ended or run.status == "pending" or run_is_alive(run) else f"{run.status} (process gone)"
    if run.port and not run.ended:
        progress = f"http://127.0.0.1:{run.port}"
    elif moment and moment.total:
        progress = f"{moment.done:,} of {moment.total:,} {moment.unit}  {moment.note}"
    else:
        progress = run.message
    return run.id, run.kind, status, human_duration(run.duration_s or now_s - run.created_at_s), progress
