"""What another tracker's store holds, as plain records: the same for an MLflow database, an MLflow server and a W&B folder.

Times are milliseconds since the epoch. `Store` is what a reader gives; it reads and never writes.
Does not know: the ledger, or how any of them keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True)
class Experiment:
    """A named group of runs."""

    id: str
    name: str
    artifact_location: str = ""
    lifecycle: str = "active"
    created_ms: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run of an experiment, without its metric points. `status` is in MLflow's words. `datasets` are MLflow's dataset inputs."""

    id: str
    experiment: str
    name: str
    user: str = ""
    status: str = "FINISHED"
    start_ms: int = 0
    end_ms: int | None = None
    lifecycle: str = "active"
    artifact_uri: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[Mapping[str, Any], ...] = ()


class Point(NamedTuple):
    """One value of a metric, in the order in which it was logged."""

    name: str
    value: float
    at_ms: float
    step: int


@dataclass(frozen=True)
class Registered:
    """A registered model: what belongs to no version. `aliases` maps a name to a version's number."""

    name: str
    created_ms: int = 0
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model. `source` is where its files lie; `run` made it, where one did."""

    model: str
    number: int
    created_ms: int = 0
    description: str = ""
    source: str = ""
    run: str = ""
    run_link: str = ""
    stage: str = "None"
    status: str = "READY"
    user: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class Artifact(NamedTuple):
    """A file of a run or of a version, by its name below its root."""

    name: str
    size: int


class Store(Protocol):
    """A store that can be read. Its `identity` names it in what is recorded, without credentials."""

    identity: str

    def experiments(self) -> list[Experiment]:
        """All experiments, deleted ones too."""

    def runs(self, experiment: str) -> Iterable[Run]:
        """The runs of an experiment, deleted ones too, oldest first."""

    def points(self, run: str) -> list[Point]:
        """Every metric point of a run, in a fixed order."""

    def artifacts(self, run: Run) -> list[Artifact]:
        """The files of a run. Raises DataError when its place cannot be reached."""

    def fetch(self, run: Run, name: str, target: Path) -> None:
        """Write one file of a run to `target`."""

    def registered(self) -> list[Registered]:
        """The registered models."""

    def versions(self, model: str) -> list[RegisteredVersion]:
        """The versions of a registered model, by number."""

    def fetch_version(self, version: RegisteredVersion, folder: Path) -> list[str]:
        """Write the files of a version below `folder`; returns their names. Raises DataError when they cannot be reached."""

    def close(self) -> None:
        """Release what is open."""
