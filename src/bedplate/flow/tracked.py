"""The project's own runs and models as a store that can be read, as other trackers' are: what an export reads.

Experiments are those of MLflow clients and the project's jobs. Deleted runs are there too; removed versions are not.
Does not know: where it is exported to.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bedplate.core.loading import load
from bedplate.flow.facts import location_of
from bedplate.flow.tables import SERIES
from bedplate.flow.workspace import Workspace
from bedplate.models.foreign.records import Artifact, Experiment, Point, Registered, RegisteredVersion, Run
from bedplate.models.tracking.drafts import ARTIFACT_SCHEME
from bedplate.models.tracking.index import OWN_ARTIFACTS, Index
from bedplate.models.tracking.points import merged, unfolded


class TrackedStore:
    """The store of one project, as of now."""

    def __init__(self, workspace: Workspace, index: Index) -> None:
        """`index` is caught up with the ledger."""
        self.identity = f"bedplate:{workspace.project.name}"
        self._workspace = workspace
        self._index = index
        self._series = load(SERIES, "series", "store")(workspace.state / "series")
        self._waiting = unfolded(workspace.state / "tracking" / "points")  # points that a live server has not folded into the store yet

    def close(self) -> None:
        """The index is its owner's to close."""

    def experiments(self) -> list[Experiment]:
        """All experiments that have a name, deleted ones too."""
        columns = "id, name, location, lifecycle, created_ms, tags"
        rows = self._rows(f"SELECT {columns} FROM experiments ORDER BY created_ms, id")  # noqa: S608 - constant
        return [Experiment(identity, name, place, life, at_ms, json.loads(tags)) for identity, name, place, life, at_ms, tags in rows]

    def runs(self, experiment: str) -> Iterable[Run]:
        """The runs of an experiment, oldest first."""
        columns = "number, id, name, user, status, start_ms, end_ms, lifecycle, artifact_uri"
        query = f"SELECT {columns} FROM runs WHERE experiment = ? ORDER BY start_ms, number"  # noqa: S608 - constant
        for number, *row in self._index.database.execute(query, (experiment,)).fetchall():
            identity, name, user, status, start_ms, end_ms, lifecycle, uri = row
            datasets = tuple(json.loads(body) for (body,) in self._rows("SELECT body FROM datasets WHERE run = ? ORDER BY name", number))
            params, tags = (dict(self._rows(f"SELECT key, value FROM {table} WHERE run = ?", number)) for table in ("params", "tags"))  # noqa: S608
            yield Run(identity, experiment, name, user, status, start_ms, end_ms, lifecycle, uri, params, tags, datasets)

    def points(self, run: str) -> list[Point]:
        """Every metric point of a run, by name and step."""
        waiting = self._waiting.get(run, {})
        found = []
        for name in sorted({*self._series.names(run), *waiting}):
            columns = [waiting[name]] if name in waiting else []
            parts = merged(self._workspace.state / "series", run, name, columns)
            found += [Point(name, value, at_ms, step) for at_ms, step, value in parts]
        return found

    def artifacts(self, run: Run) -> list[Artifact]:
        """The files of a run."""
        folder = self._folder(run)
        paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp")] if folder is not None else []
        return sorted(Artifact(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths if folder is not None)

    def fetch(self, run: Run, name: str, target: Path) -> None:
        """Copy one file of a run to `target`."""
        folder = self._folder(run)
        assert folder is not None, "only listed files are fetched"
        shutil.copyfile(folder / name, target)

    def registered(self) -> list[Registered]:
        """The models of the registry."""
        models = sorted(self._index.documents("model"), key=lambda model: str(model["name"]))
        return [_registered(model) for model in models]

    def versions(self, model: str) -> list[RegisteredVersion]:
        """The versions of a model that were not removed."""
        return sorted((_version(each) for each in self._index.documents("version", model)), key=lambda version: version.number)

    def fetch_version(self, version: RegisteredVersion, folder: Path) -> list[str]:
        """Copy the files of a version below `folder`; none for one whose files are elsewhere."""
        place = location_of(self._workspace, self._workspace.records.version(f"{version.model}@{version.number}"))
        paths = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
        for path in paths:
            target = folder / path.relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return sorted(path.relative_to(place).as_posix() for path in paths)

    def _folder(self, run: Run) -> Path | None:
        """Where the files of a run lie: for one of the project's own, those of its newest attempt."""
        path = run.artifact_uri.removeprefix(ARTIFACT_SCHEME).strip("/")
        if not path.startswith(f"{OWN_ARTIFACTS}/"):
            return self._workspace.state / "artifacts" / path
        attempts = [each for each in (self._workspace.state / path).glob("*") if each.name.isdigit()]
        return max(attempts, key=lambda each: int(each.name)) / "out" / "artifacts" if attempts else None

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        return iter(self._index.database.execute(query, values).fetchall())


@contextmanager
def tracked(workspace: Workspace) -> Iterator[TrackedStore]:
    """The store of a project, by an index of its own: a server may be writing to the other one."""
    with tempfile.TemporaryDirectory() as scratch:
        index = Index(Path(scratch) / "index.db", workspace.project.name)
        try:
            index.catch_up(workspace.ledger)
            yield TrackedStore(workspace, index)
        finally:
            index.close()


def _registered(model: Mapping[str, Any]) -> Registered:
    aliases = {alias: int(number) for alias, number in model["aliases"].items() if number is not None}
    return Registered(model["name"], model["created_ms"], model["description"], dict(model["tags"]), aliases)


def _version(version: Mapping[str, Any]) -> RegisteredVersion:
    told = version["mlflow"]
    return RegisteredVersion(
        version["model"],
        int(version["number"]),
        version["created_ms"],
        version["description"],
        version["source"],
        told.get("run_id") or version["run"],
        told.get("run_link", ""),
        version["stage"],
        told.get("status") or "READY",
        told.get("user", ""),
        dict(version["tags"]),
    )
