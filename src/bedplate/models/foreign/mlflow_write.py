"""Writing a store of records to an MLflow server, by its REST API: experiments, runs with every point, artifacts, and the registry.

Times, steps, values, params, tags and files arrive as they were. What the API does not let a client choose, ids of runs and the numbers of
versions, is kept in tags, by which a second export knows what is there already.
Does not know: the ledger.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from bedplate.core.errors import DataError
from bedplate.models.foreign.mlflow_rest import API, PROXY, RestStore, proxied
from bedplate.models.foreign.places import local_path
from bedplate.models.foreign.records import Experiment, Point, RegisteredVersion, Run, Store

RUN_TAG = "bedplate.run"
DONE_TAG = "bedplate.exported"
VERSION_TAG = "bedplate.version"
MADE_BY_TAG = "bedplate.made_by"
_METRICS, _PARAMS = 1000, 100  # the most that one batch takes

Item = TypeVar("Item")


@dataclass
class Written:
    """What an export wrote; `known` runs and versions were there already."""

    experiments: int = 0
    runs: int = 0
    points: int = 0
    files: int = 0
    versions: int = 0
    known: int = 0


class RestWriter:
    """A server that is written to."""

    def __init__(self, url: str) -> None:
        """Nothing is asked yet. Raises DataError for what is no URL."""
        self.store = RestStore(url)
        self.written = Written()
        self._runs: dict[str, str] = {}  # ids there by ids here
        self._places: dict[str, str] = {}  # addresses of runs' artifacts there by those here
        self._owners: dict[str, str] = {}  # ids of runs there by those addresses

    def write(self, source: Store, progress: Callable[[str], None]) -> Written:
        """Write all of `source`. Done again it goes on where it ended. Raises DataError when the server refuses."""
        there = {experiment.name: experiment for experiment in self.store.experiments()}
        for experiment in source.experiments():
            runs = list(source.runs(experiment.id))
            if not runs and experiment.name == "Default":
                continue
            present = there.get(experiment.name)
            identity = present.id if present is not None else self._experiment(experiment)
            standing = [run for run in self.store.runs(identity) if DONE_TAG in run.tags or run.lifecycle == "active"]
            known = {run.tags.get(RUN_TAG, ""): run for run in standing}
            for run in runs:
                progress(f"{experiment.name}: {run.name or run.id}")
                self._run(source, run, identity, known.get(run.id))
            if experiment.lifecycle != "active" and (present is None or present.lifecycle == "active"):
                self._post("experiments/delete", experiment_id=identity)
        self._models(source, progress)
        return self.written

    def _experiment(self, experiment: Experiment) -> str:
        tags = [{"key": key, "value": value} for key, value in experiment.tags.items()]
        self.written.experiments += 1
        return str(self._post("experiments/create", name=experiment.name, tags=tags)["experiment_id"])

    def _run(self, source: Store, run: Run, experiment: str, known: Run | None) -> None:
        if known is not None and DONE_TAG in known.tags:
            self._place(run, known.id, known.artifact_uri)
            self.written.known += 1
            return
        if known is not None:  # one that a kill cut short is written anew
            self._post("runs/delete", run_id=known.id)
        tags = [{"key": key, "value": value} for key, value in {**run.tags, RUN_TAG: run.id}.items() if key != "mlflow.runName"]
        asked = {"experiment_id": experiment, "user_id": run.user, "run_name": run.name, "start_time": run.start_ms, "tags": tags[:_PARAMS]}
        made = self._post("runs/create", **asked)["run"]["info"]
        identity = str(made["run_id"])
        for part in _parts(tags[_PARAMS:], _PARAMS):
            self._post("runs/log-batch", run_id=identity, tags=part)
        for part in _parts([{"key": key, "value": value} for key, value in run.params.items()], _PARAMS):
            self._post("runs/log-batch", run_id=identity, params=part)
        points = source.points(run.id)
        for chunk in _parts(points, _METRICS):
            self._post("runs/log-batch", run_id=identity, metrics=[_metric(point) for point in chunk])
        if run.datasets:
            self._post("runs/log-inputs", run_id=identity, datasets=[_dataset(given) for given in run.datasets])
        files = self._upload(source, run, str(made["artifact_uri"]))
        ended = {"end_time": run.end_ms} if run.end_ms is not None else {}
        self._post("runs/update", run_id=identity, status=run.status, **ended)
        self._post("runs/set-tag", run_id=identity, key=DONE_TAG, value="1")
        if run.lifecycle != "active":
            self._post("runs/delete", run_id=identity)
        self._place(run, identity, str(made["artifact_uri"]))
        self.written.runs += 1
        self.written.points += len(points)
        self.written.files += files

    def _place(self, run: Run, identity: str, place: str) -> None:
        self._runs[run.id], self._places[run.artifact_uri], self._owners[place] = identity, place, identity

    def _upload(self, source: Store, run: Run, place: str) -> int:
        listed = source.artifacts(run)
        with tempfile.TemporaryDirectory() as scratch:
            for artifact in listed:
                local = Path(scratch) / "file"
                source.fetch(run, artifact.name, local)
                self._put(place, artifact.name, local)
        return len(listed)

    def _put(self, place: str, name: str, file: Path) -> None:
        if place.startswith("mlflow-artifacts:"):
            path = quote(f"{PROXY}/{proxied(place)}/{name}")
            with file.open("rb") as content:
                self.store.ask(self.store.client.build_request("PUT", path, content=_blocks(content)))
            return
        folder = local_path(place, Path("/"))
        if folder is None:
            fix = "start the server with --serve-artifacts"
            raise DataError("the server wants its clients to write files to a place of its own", value=place, fix=fix)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file.read_bytes())

    def _models(self, source: Store, progress: Callable[[str], None]) -> None:
        there = {model.name for model in self.store.registered()}
        for model in source.registered():
            progress(f"model {model.name}")
            if model.name not in there:
                tags = [{"key": key, "value": value} for key, value in model.tags.items()]
                self._post("registered-models/create", name=model.name, description=model.description, tags=tags)
            known = {version.tags.get(VERSION_TAG): version.number for version in self.store.versions(model.name)}
            numbers: dict[int, int] = {}
            for version in source.versions(model.name):
                reference = f"{model.name}@{version.number}"
                if reference in known:
                    self.written.known += 1
                    numbers[version.number] = known[reference]
                else:
                    numbers[version.number] = self._version(source, version, reference)
            for alias, number in model.aliases.items():
                if number in numbers:
                    self._post("registered-models/alias", name=model.name, alias=alias, version=str(numbers[number]))

    def _version(self, source: Store, version: RegisteredVersion, reference: str) -> int:
        """Register a version: its files are those of a run that was written, or are put with a run that is made to hold them."""
        run = self._runs.get(version.run) or self._holder(version)
        address = moved(version.source, self._places)
        if address is None:
            place = str(self.store.get("runs/get", {"run_id": run})["run"]["info"]["artifact_uri"])
            address = f"{place}/{version.model}-{version.number}"
            with tempfile.TemporaryDirectory() as scratch:
                for name in source.fetch_version(version, Path(scratch)):
                    self._put(address, name, Path(scratch) / name)
        else:  # MLflow wants the run that holds the files; the one that made the version stays in a tag
            run = next((owner for place, owner in self._owners.items() if address.startswith(f"{place}/")), run)
        made_by = {MADE_BY_TAG: self._runs[version.run]} if self._runs.get(version.run, run) != run else {}
        tags = [{"key": key, "value": value} for key, value in {**version.tags, VERSION_TAG: reference, **made_by}.items()]
        asked = {"name": version.model, "source": address, "run_id": run, "description": version.description, "tags": tags}
        made = self._post("model-versions/create", **asked)["model_version"]
        if version.stage != "None":
            self._post("model-versions/transition-stage", name=version.model, version=made["version"], stage=version.stage)
        self.written.versions += 1
        return int(made["version"])

    def _holder(self, version: RegisteredVersion) -> str:
        """A run for a version whose own run is not there."""
        name = "bedplate models"
        found = next((each for each in self.store.experiments() if each.name == name), None)
        identity = found.id if found is not None else self._experiment(Experiment("", name))
        run = self._post("runs/create", experiment_id=identity, run_name=f"{version.model}@{version.number}", start_time=version.created_ms)
        made = str(run["run"]["info"]["run_id"])
        self._post("runs/update", run_id=made, status="FINISHED", end_time=version.created_ms)
        return made

    def _post(self, route: str, **body: Any) -> dict[str, Any]:
        return self.store.answered(self.store.client.build_request("POST", f"{API}/{route}", json=body))


def moved(address: str, places: Mapping[str, str]) -> str | None:
    """Where what lay at `address` is now, when it lay below one of `places` (now by then); else None."""
    found = next((place for place in places if place and f"{address}/".startswith(f"{place.rstrip('/')}/")), None)
    return None if found is None else places[found].rstrip("/") + address[len(found.rstrip("/")) :]


def _metric(point: Point) -> dict[str, Any]:
    """A point as MLflow's JSON has it: NaN and infinities are text."""
    value: float | str = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else "Infinity" if point.value > 0 else "-Infinity"
    return {"key": point.name, "value": value, "timestamp": round(point.at_ms), "step": point.step}


def _dataset(given: Mapping[str, Any]) -> dict[str, Any]:
    tags = [{"key": key, "value": value} for key, value in given.get("tags", {}).items()]
    return {"dataset": dict(given["dataset"]), "tags": tags}


def _parts(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    return (list(items[at : at + size]) for at in range(0, len(items), size))


def _blocks(file: Any) -> Iterable[bytes]:
    while block := file.read(1 << 20):
        yield block
