"""Bringing another tracker's store into the ledger: experiments, runs with every point, artifacts, and the registry.

Each run is one transaction, after its points and files are there; each has a key, so an import that was killed is ended by the same
command, and one that is done adds nothing when it is done again. A run that went on meanwhile is brought in anew. Files in unsafe formats
are kept, as files: a version that holds one cannot be loaded.
Does not know: how a store is read (`models.foreign`).
"""

from __future__ import annotations

import getpass
import hashlib
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bedplate.core.atomic import confined
from bedplate.core.digest import digest, digest_files
from bedplate.core.errors import BedplateError, DataError, UnsafeArtifact
from bedplate.core.event import Draft
from bedplate.core.loading import load
from bedplate.core.package import OBJECTS
from bedplate.core.versions import Version
from bedplate.flow.deciding import signed
from bedplate.flow.tables import SERIES
from bedplate.flow.workspace import Workspace
from bedplate.models.foreign.mlflow_write import moved
from bedplate.models.foreign.records import Experiment, Point, Registered, RegisteredVersion, Run, Store
from bedplate.models.packaging.assemble import assemble, through_store
from bedplate.models.tracking import drafts

ARTIFACTS = "artifacts"  # below the state folder, in the layout of the tracking server
IMPORTED = "imported"
DEFAULT_EXPERIMENT = "0"
FROM_TAG = "bedplate.import.from"
DIGEST_TAG = "bedplate.import.digest"
TIMES_TAG = "bedplate.import.times"
WRITER = "import"

Progress = Callable[[str], None]


@dataclass
class Brought:
    """What an import did: how much was new, and what could not be brought (one line each)."""

    experiments: int = 0
    runs: int = 0
    points: int = 0
    files: int = 0
    versions: int = 0
    known: int = 0
    left: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)


def bring(workspace: Workspace, store: Store, prefix: str = "", progress: Progress = lambda _: None) -> Brought:
    """Import everything in `store`; names of experiments and models are led by `prefix`.

    Raises DataError when the store cannot be read, or a model's name is taken by one that is not from there.
    """
    importing = _Import(workspace, store, prefix, progress)
    for registered in store.registered():
        importing.check_model(registered)
    for experiment in store.experiments():
        importing.experiment(experiment)
    for registered in store.registered():
        importing.model(registered)
    return importing.brought


class _Import:
    def __init__(self, workspace: Workspace, store: Store, prefix: str, progress: Progress) -> None:
        self.workspace = workspace
        self.store = store
        self.prefix = prefix
        self.progress = progress
        self.brought = Brought()
        self.artifacts = workspace.state / ARTIFACTS
        self.series = load(SERIES, "series", "store")(workspace.state / "series")
        self._places: dict[str, str] = {}  # addresses of runs' artifacts here by those there
        self._experiments = {
            event.payload["name"]: event.subject
            for event in workspace.ledger.read()
            if event.kind == "experiment.created" and not event.erased
        }

    def experiment(self, experiment: Experiment) -> None:
        """An experiment and its runs. One of the same name goes on with these runs."""
        name = f"{self.prefix}{experiment.name}"
        identity = self._experiments.get(name)
        if identity is None:
            identity = DEFAULT_EXPERIMENT if name == "Default" else str(10**17 + _number(self.store.identity, experiment.id))
            made = [drafts.experiment_created(identity, name, at_ms=experiment.created_ms, tags=experiment.tags)]
            self.workspace.ledger.append(made)
            self._experiments[name] = identity
            self.brought.experiments += 1
        for run in self.store.runs(experiment.id):
            self.progress(f"{name}: {run.name or run.id}")
            self.run(run, identity, name)
        if experiment.lifecycle != "active":
            gone = drafts.experiment_changed(identity, at_ms=experiment.created_ms, lifecycle=experiment.lifecycle)
            self.workspace.ledger.append([replace(gone, key=f"imported/experiment/{identity}/{experiment.lifecycle}")])

    def run(self, run: Run, experiment: str, name: str) -> None:
        """A run with its points and files. One that is there as it is now is left alone."""
        self._places[run.artifact_uri] = drafts.artifact_uri(experiment, run.id)
        known = self.workspace.records.runs.get(run.id)
        if known is not None and FROM_TAG not in known.tags:
            self.brought.left.append(f"run {run.id}: a run of this id is here, and did not come from there")
            return
        points = self.store.points(run.id)
        content = digest([_plain(run), [[repr(part) for part in point] for point in points]])
        if known is not None and known.tags.get(DIGEST_TAG) == content:
            self.brought.known += 1
            return
        times = 1 + int(known.tags.get(TIMES_TAG, 0)) if known is not None else 1
        self._files(run, experiment)
        self._points(run.id, times, points)
        tags = {**run.tags, FROM_TAG: self.store.identity, DIGEST_TAG: content, TIMES_TAG: str(times)}
        begun = drafts.run_logged(run.id, experiment, name, name=run.name, user=run.user, start_ms=run.start_ms, tags=tags)
        changes: dict[str, Any] = {
            "status": run.status,
            "end_ms": run.end_ms,
            "lifecycle": run.lifecycle,
            "params": dict(run.params),
            "metrics": _latest(points),
            "tags": tags,
            "datasets": [dict(each) for each in run.datasets],
        }
        told = replace(drafts.run_changed(run.id, **changes), key=f"imported/run/{run.id}/{content}")
        self.workspace.ledger.append([begun, told])
        self.workspace.refresh()
        self.brought.runs += 1
        self.brought.points += len(points)

    def check_model(self, model: Registered) -> None:
        """Raises DataError when versions of that name are here that did not come from this store."""
        name = f"{self.prefix}{model.name}"
        own = [version for version in self.workspace.records.versions.get(name, []) if IMPORTED not in version.meta]
        if own or name in self.workspace.project.spec.models:
            fix = 'give the imported names a beginning of their own, for example --prefix "old-"'
            raise DataError("the project has a model of that name", value=name, fix=fix)

    def model(self, model: Registered) -> None:
        """A registered model: its versions under their own numbers, then its aliases."""
        name = f"{self.prefix}{model.name}"
        said = drafts.model_changed(name, at_ms=model.created_ms, description=model.description, tags=dict(model.tags))
        self.workspace.ledger.append([replace(said, key=f"imported/model/{name}/{digest(dict(said.payload))}")])
        for version in self.store.versions(model.name):
            if f"{name}@{version.number}" in {each.ref for each in self.workspace.records.versions.get(name, [])}:
                self.brought.known += 1
            else:
                self.version(name, version)
            self._labels(name, version)
        for alias, number in model.aliases.items():
            self._alias(name, alias, number)

    def version(self, name: str, version: RegisteredVersion) -> None:
        """A version: its files, sealed where they are safe, and its record."""
        self.progress(f"model {name}@{version.number}")
        folder = self.workspace.state / "models" / _folder_name(name) / str(version.number)
        meta: dict[str, Any] = {
            IMPORTED: self.store.identity,
            "origin": {"from": f"{self.store.identity} {version.model}/{version.number}"},
            "mlflow": self._told(version),
        }
        location, content, more = self._content(version, folder)
        made = Version(name, version.number, "model", content, location, version.run, version.created_ms / 1000, {**meta, **more})
        self.workspace.ledger.append([drafts.version_created(made)])
        self.workspace.refresh()
        self.brought.versions += 1

    def _content(self, version: RegisteredVersion, folder: Path) -> tuple[str, str, dict[str, Any]]:
        """Where a version's files lie now, what they are named by, and facts of them."""
        scratch = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        try:
            names = self.store.fetch_version(version, scratch)
            relative = str(folder.relative_to(self.workspace.state))
            try:
                place = through_store(self.workspace.state / OBJECTS)
                content, manifest = assemble(
                    scratch, folder, facts={"params": {}}, place=place, environment={"python": None, "packages": {}}
                )
                return relative, content, {each: manifest[each] for each in ("weights", "files")}
            except (UnsafeArtifact, DataError) as error:
                self.brought.left.append(f"model {version.model}@{version.number} cannot be loaded: {error.what}")
            kept = folder.with_name(f"{folder.name}-files")
            shutil.rmtree(kept, ignore_errors=True)
            scratch.rename(kept)
            return str(kept.relative_to(self.workspace.state)), digest_files(kept, names), {"unsafe": True}
        except (BedplateError, OSError) as error:
            if isinstance(error, UnsafeArtifact):
                raise
            self.brought.left.append(f"the files of model {version.model}@{version.number}: {error}")
            return version.source, hashlib.sha256(version.source.encode()).hexdigest(), {"missing": True}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _told(self, version: RegisteredVersion) -> dict[str, Any]:
        """What MLflow's clients are told of a version; its source is where its run's files are now."""
        source = moved(version.source, self._places) or version.source
        named = {"source": source, "run_id": version.run, "run_link": version.run_link, "description": version.description}
        return {**named, "status": version.status, "user": version.user}

    def _labels(self, name: str, version: RegisteredVersion) -> None:
        changes = {"stage": version.stage} if version.stage != "None" else {}
        if version.tags or changes:
            said = drafts.version_tagged(f"{name}@{version.number}", version.tags, getpass.getuser(), **changes)
            self.workspace.ledger.append([replace(said, key=f"imported/tags/{said.subject}/{digest(dict(said.payload))}")])

    def _alias(self, name: str, alias: str, number: int) -> None:
        if self.workspace.records.alias(name, alias) == number:
            return
        version = self.workspace.records.version(f"{name}@{number}")
        why = f"imported from {self.store.identity}"
        said = {"by": getpass.getuser(), "promoted": True, "override": True, "why": why}
        payload = {"alias": alias, "version": number, "decision": signed(self.workspace, version, alias, said)}
        self.workspace.ledger.append([Draft("alias.moved", name, payload)], after=self.workspace.refresh().seq)
        self.workspace.refresh()

    def _files(self, run: Run, experiment: str) -> None:
        """The artifacts of a run, each whole or not at all; those that are there in that size are not fetched again."""
        folder = self.artifacts / experiment / run.id / "artifacts"
        try:
            listed = self.store.artifacts(run)
        except DataError as error:
            self.brought.left.append(f"artifacts of run {run.id}: {error}")
            return
        for artifact in listed:
            target = confined(folder, artifact.name)
            if target.is_file() and target.stat().st_size == artifact.size:
                continue
            partial = target.with_name(f".{target.name}.import.tmp")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                self.store.fetch(run, artifact.name, partial)
            except (DataError, OSError) as error:
                self.brought.left.append(f"artifact {artifact.name} of run {run.id}: {error}")
                continue
            partial.rename(target)
            self.brought.files += 1

    def _points(self, run: str, times: int, points: list[Point]) -> None:
        if points:
            columns = [list(column) for column in zip(*points, strict=True)]
            names, values, at_ms, steps = columns
            self.series.append_columns(run, times, WRITER, 1, names, [at / 1000 for at in at_ms], steps, values)


def _latest(points: list[Point]) -> dict[str, list[float | int | str]]:
    """The latest value of each metric, by MLflow's rule: the highest step, then time, then value."""
    latest: dict[str, tuple[float, int, int]] = {}
    for point in points:
        value, at_ms, step = latest.get(point.name, (-math.inf, -1, -(2**63)))
        rank = (point.step, point.at_ms, -math.inf if math.isnan(point.value) else point.value)
        if rank >= (step, at_ms, -math.inf if math.isnan(value) else value):
            latest[point.name] = (point.value, round(point.at_ms), point.step)
    return drafts.latest(latest)


def _plain(run: Run) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if name != "datasets"} | {"datasets": [dict(each) for each in run.datasets]}


def _number(*parts: str) -> int:
    """A number of 18 digits at most for an identity; the same at each import."""
    return int(digest(list(parts)), 16) % (9 * 10**17)


def _folder_name(name: str) -> str:
    """A model's name as one of a folder: names of other registries may hold anything."""
    plain = "".join(each if each.isalnum() or each in "-_." else "_" for each in name)
    return plain if plain == name else f"{plain}-{digest(name)[:8]}"
