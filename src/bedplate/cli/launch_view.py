"""Showing a launch while it runs: bars on a terminal, one line an event elsewhere; and what Ctrl-C asks for.

Does not know: how a launch is driven.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bedplate.cli.command import show, table
from bedplate.core.clock import human_duration
from bedplate.core.plan import Plan
from bedplate.core.record import LaunchRecord, RunRecord
from bedplate.flow.drive import drive
from bedplate.flow.watch import Progress as Moment
from bedplate.flow.workspace import Workspace, request_stop


class LaunchView:
    """An observer of one launch. The first Ctrl-C asks its runs to write a checkpoint and stop, the second ends them at once."""

    def __init__(self, workspace: Workspace, launch: str, quiet: bool) -> None:
        """`quiet` shows nothing (for `--json`)."""
        self._workspace = workspace
        self._launch = launch
        self._quiet = quiet
        self._interrupts = 0
        self._told: set[tuple[str, str]] = set()
        self._tasks: dict[str, TaskID] = {}
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:<28}"), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self._bars = Progress(*columns, *times, console=console, transient=True, disable=quiet or not console.is_terminal)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._interrupts > 0

    def __call__(self, launch: LaunchRecord, _plan: Plan | None, moments: list[Moment]) -> None:
        """Take note of the present moment."""
        for moment in moments:
            if moment.run not in self._tasks:
                self._tasks[moment.run] = self._bars.add_task(moment.run, total=None, unit="", note="")
            total = moment.total or None
            self._bars.update(self._tasks[moment.run], completed=moment.done, total=total, unit=moment.unit, note=moment.note)
        for run in self._workspace.records.runs.values():
            if run.launch == launch.id:
                self._line(run)
        if self._interrupts:
            self._stop(launch)

    def _line(self, run: RunRecord) -> None:
        key = (run.id, f"{run.status} {run.state.token}")
        if key in self._told or run.status == "pending":
            return
        self._told.add(key)
        if run.id in self._tasks and run.status != "running":
            self._bars.remove_task(self._tasks.pop(run.id))
        if self._quiet:
            return
        text = f"{run.status:<10} {run.id}"
        if run.status == "running":
            text += f"  {run.made['why']}" if run.state.token == 1 else f"  attempt {run.state.token}: {run.attempts[-2].message}"
        elif run.status == "ready":
            text += f"  http://127.0.0.1:{run.port}"
        else:
            text += f"  {', '.join(run.outputs)}  {human_duration(run.duration_s or 0)}" + (f"  {run.message}" if run.message else "")
        self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _stop(self, launch: LaunchRecord) -> None:
        how = "stop" if self._interrupts == 1 else "cancel"
        live = [run for run in self._workspace.records.live() if run.launch == launch.id and run.status != "ready"]
        wanted = tuple(run.id for run in live if run.state.stopping not in (how, "cancel"))
        if wanted:
            request_stop(self._workspace, wanted, how, "Ctrl-C")

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        text = (
            "stopping: each run writes a checkpoint first (Ctrl-C again ends them at once)" if self._interrupts == 1 else "ending at once"
        )
        self._bars.console.print(text, highlight=False)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show bars, and take Ctrl-C, while the body runs."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            with self._bars:
                yield
        finally:
            signal.signal(signal.SIGINT, before)


def follow(workspace: Workspace, launch: str, as_json: bool) -> LaunchRecord:
    """Drive a launch to its end while showing it."""
    view = LaunchView(workspace, launch, quiet=as_json)
    with view.shown():
        return drive(workspace, launch, view)


def summary(workspace: Workspace, launch: LaunchRecord, again: str) -> str:
    """What the launch did, and the commands that a person would type next; `again` is the one that asked for this launch."""
    runs = [run for run in workspace.records.runs.values() if run.launch == launch.id]
    lines = []
    if runs:
        rows = [
            (run.id, run.status, ", ".join(run.outputs), human_duration(run.duration_s) if run.duration_s else "", _notes(workspace, run))
            for run in runs
        ]
        lines.append(table(("run", "status", "made", "took", ""), rows))
    else:
        lines.append("everything is up to date; nothing was run" if launch.status == "done" else "nothing was run")
    took = human_duration((launch.finished_at_s or launch.requested_at_s) - launch.requested_at_s)
    lines.append(f"\n{launch.status} in {took}" + (f": {launch.message}" if launch.message else ""))
    return "\n".join([*lines, *_next(workspace, launch, runs, again)])


def _notes(workspace: Workspace, run: RunRecord) -> str:
    notes = [f"{name} {value:.4g}" for name, value in sorted(run.metrics.items())]
    for ref in run.outputs:
        meta = workspace.records.version(ref).meta
        quarantined = meta.get("quarantined")
        if quarantined:
            notes.append(f"{quarantined} row{'' if quarantined == 1 else 's'} in quarantine")
        notes += [f"warning: expected {each['name']}, found {each['found']}" for each in meta.get("expectations", ()) if not each["held"]]
    evaluation = workspace.records.evaluations.get(run.step, {})
    if evaluation.get("run") == run.id:
        notes.append(str(evaluation["decision"]["why"]))
    return "  ".join(notes)


def _next(workspace: Workspace, launch: LaunchRecord, runs: list[RunRecord], again: str) -> list[str]:
    failed = next((run for run in runs if run.state.status == "failed"), None)
    if failed is not None:
        return [f"\nnext: bedplate explain {failed.id}", f"      bedplate logs {failed.id}"]
    if launch.status == "stopped":
        return [f"\nnext: {again}   goes on from the last checkpoint"]
    serving = [run for run in workspace.records.live() if run.status == "ready"]
    if launch.mode == "up" and serving:
        fields = " ".join(f"{name}=VALUE" for name in serving[0].made["spec"]["spine"]["key"])
        return [f"\nnext: bedplate ask {serving[0].step} {fields}", "      bedplate lineage ANSWER_ID", "      bedplate down"]
    made = next((ref for run in reversed(runs) for ref in run.outputs), None)
    return [f"\nnext: bedplate lineage {made}", "      bedplate runs"] if made else []


def finish(workspace: Workspace, launch: LaunchRecord, again: str, as_json: bool, beside: Mapping[str, Any] | None = None) -> int:
    """Print the summary, where `again` is the command that asked for this launch and `beside` what its JSON holds besides.

    Returns the exit code: 0 done, 1 failed, 130 stopped.
    """
    runs = [run.to_json() for run in workspace.records.runs.values() if run.launch == launch.id]
    if as_json:
        serving = {run.step: run.port for run in workspace.records.live() if run.status == "ready"}
        told = {"launch": launch.id, "status": launch.status, "message": launch.message, "runs": runs, "serving": serving}
        show({**(beside or {}), **told}, "", as_json=True)
    else:
        typer.echo(summary(workspace, launch, again))
    return {"done": 0, "failed": 1, "stopped": 130}[launch.status]
