"""The Python interface: `bedplate.open(...)` gives an `OpenProject` that plans, runs and reads records, as the command line does.

Does not know: terminals; progress goes to a callback if one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bedplate.core.errors import JobError
from bedplate.core.lineage import Node
from bedplate.core.plan import Plan
from bedplate.core.record import LaunchRecord, RunRecord
from bedplate.core.versions import Version
from bedplate.flow.drive import drive
from bedplate.flow.explaining import explain
from bedplate.flow.lineage import lineage
from bedplate.flow.planner import check_run_targets, plan, steps_for
from bedplate.flow.stopping import bring_down
from bedplate.flow.watch import Progress
from bedplate.flow.workspace import Workspace, open_workspace, request_launch

OnProgress = Callable[[list[Progress]], None]


class OpenProject:
    """A project, open in this process. Use it as a context manager, or call `close`."""

    def __init__(self, workspace: Workspace) -> None:
        """Wrap an opened workspace."""
        self._workspace = workspace

    @property
    def name(self) -> str:
        """The project's name."""
        return self._workspace.project.name

    def plan(self, *targets: str, force: Sequence[str] = ()) -> Plan:
        """What would run for `targets` (none: everything), where and why. Starts nothing."""
        self._workspace.refresh()
        return plan(self._workspace, targets, force)

    def run(self, *targets: str, force: Sequence[str] = (), on_progress: OnProgress | None = None) -> list[RunRecord]:
        """Make targets and what they need; returns the runs that it took (none when all is up to date).

        Raises JobError when a step fails, with its message, and NotFound for an unknown target.
        """
        check_run_targets(self._workspace.project.spec, targets)
        return self._launch("run", targets, force, on_progress)

    def up(self, *targets: str, force: Sequence[str] = (), on_progress: OnProgress | None = None) -> list[RunRecord]:
        """Bring up everything declared, or `targets`; returns the runs that it took. Raises JobError and NotFound, as `run` does."""
        return self._launch("up", targets, force, on_progress)

    def down(self) -> list[str]:
        """Stop endpoints and live runs; returns the ids of those that ended."""
        return bring_down(self._workspace, lambda _: None)

    def runs(self, step: str | None = None) -> list[RunRecord]:
        """All runs, or those of one step, oldest first."""
        return [run for run in self._workspace.refresh().runs.values() if step in (None, run.step)]

    def version(self, ref: str) -> Version:
        """A version: `delay@1`, `delay@production` or, for the newest, `delay`. Raises NotFound."""
        return self._workspace.refresh().version(ref)

    def lineage(self, name: str) -> Node:
        """The tree behind an answer, a version or a run. Raises NotFound."""
        self._workspace.refresh()
        return lineage(self._workspace, name)

    def explain(self, name: str) -> Mapping[str, Any]:
        """Why a run or step is as it is. Raises NotFound."""
        self._workspace.refresh()
        return explain(self._workspace, name)

    def close(self) -> None:
        """Release the ledger."""
        self._workspace.close()

    def __enter__(self) -> OpenProject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, mode: str, targets: Sequence[str], force: Sequence[str], on_progress: OnProgress | None) -> list[RunRecord]:
        steps_for(self._workspace.project.spec, [*targets, *force])
        launch = request_launch(self._workspace, mode, tuple(targets), tuple(force))
        ended = drive(self._workspace, launch, _observer(on_progress))
        if ended.status != "done":
            raise JobError(f"the launch {ended.status}: {ended.message}", value=launch, fix="see explain(RUN) and the run's log")
        return [run for run in self._workspace.records.runs.values() if run.launch == launch]


def _observer(on_progress: OnProgress | None) -> Callable[[LaunchRecord, Plan | None, list[Progress]], None]:
    def observe(_launch: LaunchRecord, _plan: Plan | None, moments: list[Progress]) -> None:
        if on_progress is not None:
            on_progress(moments)

    return observe


def open_project(folder: str | Path = ".", overrides: Mapping[str, str] | None = None) -> OpenProject:
    """Open the project in `folder` or above; `overrides` maps `job.param` to a YAML value, as `--set` does.

    Raises SpecError with file, line, field, value and fix, and LedgerError.
    """
    return OpenProject(open_workspace(Path(folder), overrides))
