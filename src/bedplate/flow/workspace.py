"""A workspace: an opened project with its ledger, its records and the places of its state.

Does not know: plans or loops; they take a workspace as an argument.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bedplate.core.clock import Clock, SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bedplate.core.project import Project, load_project
from bedplate.core.projection import follow, open_records
from bedplate.core.record import Records
from bedplate.core.settings import Settings, read_settings
from bedplate.core.spec import ProjectSpec


@dataclass
class Workspace:
    """An open project. `records` is the fold of the ledger as of the last `refresh`."""

    project: Project
    ledger: Ledger
    settings: Settings
    clock: Clock
    records: Records

    @property
    def state(self) -> Path:
        """The folder of all that the project keeps."""
        return self.project.state

    @property
    def lake_uri(self) -> str:
        """Where the project file says that its tables lie; empty for the state folder."""
        return self.project.spec.lake or ""

    @property
    def code_store(self) -> Path:
        """Where snapshots of code lie."""
        return self.state / "code"

    def attempt_folder(self, run: str, token: int) -> Path:
        """The folder below which an attempt writes: fencing by place."""
        return self.state / "runs" / run / str(token)

    def refresh(self) -> Records:
        """Fold the events that came since the last call."""
        follow(self.records, self.ledger)
        return self.records

    def with_spec(self, spec: Mapping[str, Any]) -> Workspace:
        """The same workspace for a spec that a launch recorded."""
        return replace(self, project=replace(self.project, spec=ProjectSpec.model_validate(dict(spec))))

    def close(self) -> None:
        """Release the ledger."""
        self.records.release()
        self.ledger.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_workspace(folder: Path, overrides: Mapping[str, str] | None = None, clock: Clock | None = None) -> Workspace:
    """Open the project in `folder` or above, with its ledger folded. Raises SpecError and LedgerError."""
    settings = read_settings()
    project = load_project(folder.resolve(), settings, overrides)
    ticking = clock or SystemClock()
    ledger = Ledger(project.state / "ledger.db", project.name, ticking)
    return Workspace(project, ledger, settings, ticking, open_records(ledger))


def request_launch(
    workspace: Workspace, mode: str, targets: tuple[str, ...], force: tuple[str, ...] = (), why: str = "", on: str = "", at: str = ""
) -> str:
    """Record that somebody wants `targets` (none: everything) run or brought up, jobs in the pool `on`, with the tables of the snapshot
    `at`; returns the launch's id.
    """
    wanted = launch_wanted(workspace, mode, targets, force, why, on, at)
    workspace.ledger.append([wanted])
    workspace.refresh()
    return wanted.subject


def launch_wanted(
    workspace: Workspace, mode: str, targets: tuple[str, ...], force: tuple[str, ...] = (), why: str = "", on: str = "", at: str = ""
) -> Draft:
    """The event that asks for a launch, which is its subject."""
    spec = workspace.project.spec.model_dump(mode="json", by_alias=True)
    placed = {name: value for name, value in (("on", on), ("at", at)) if value}
    payload = {"mode": mode, "targets": list(targets), "force": list(force), "spec": spec, "by": getpass.getuser(), "why": why, **placed}
    return Draft("launch.requested", f"{mode}-{os.urandom(4).hex()}", payload)


def request_stop(workspace: Workspace, runs: tuple[str, ...], how: str, why: str) -> None:
    """Record that runs shall stop (write a checkpoint and end) or be cancelled (end at once)."""
    workspace.ledger.append([Draft("stop.requested", run, {"how": how, "why": why}) for run in runs])
    workspace.refresh()
