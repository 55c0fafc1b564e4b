"""Real stores for the tests of this folder: what MLflow and W&B themselves wrote (see tests/fixtures/make_*.py)."""

from __future__ import annotations

import gzip
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from bedplate.models.foreign.records import Run, Store
from fixtures.mlflow_artifacts import write_artifacts

FIXTURES = Path(__file__).parents[2] / "fixtures"


def mlflow_store(folder: Path) -> Path:
    """The SQLite file of an MLflow store, with its artifacts beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    script = (FIXTURES / "mlflow-store.sql").read_text().replace("@FOLDER@", str(folder))
    with closing(sqlite3.connect(folder / "store.db")) as database:
        database.executescript(script)
        [(place,)] = database.execute("SELECT artifact_uri FROM runs WHERE name = 'first'").fetchall()
    write_artifacts(Path(place))
    return folder / "store.db"


def wandb_folder(folder: Path) -> Path:
    """A `wandb` folder with one offline run."""
    run = folder / "wandb" / "offline-run-20261123_050000-abc123"
    (run / "files").mkdir(parents=True)
    (run / "run-abc123.wandb").write_bytes(gzip.decompress((FIXTURES / "wandb-run.wandb.gz").read_bytes()))
    (run / "files" / "notes.txt").write_text("saved by hand")
    return folder / "wandb"


def everything(store: Store, folder: Path) -> dict[str, Any]:
    """All that a store holds, in a form that two stores can be compared by: runs by name, without ids, places and what an export adds."""
    found: dict[str, Any] = {}
    for experiment in store.experiments():
        runs = {run.name: _run(store, run, folder) for run in store.runs(experiment.id)}
        if experiment.name != "Default":
            found[experiment.name] = {"lifecycle": experiment.lifecycle, "tags": dict(experiment.tags), "runs": runs}
    return {"experiments": found, "models": {model.name: _model(store, model.name, folder) for model in store.registered()}}


def _run(store: Store, run: Run, folder: Path) -> dict[str, Any]:
    files = {}
    for number, artifact in enumerate(store.artifacts(run)):
        target = folder / run.id / str(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(run, artifact.name, target)
        files[artifact.name] = target.read_bytes()
        assert len(files[artifact.name]) == artifact.size
    points = sorted((point.name, round(point.at_ms), point.step, _number(point.value)) for point in store.points(run.id))
    tags = {name: value for name, value in run.tags.items() if not name.startswith("bedplate.") and name != "mlflow.parentRunId"}
    facts = {name: getattr(run, name) for name in ("user", "status", "start_ms", "end_ms", "lifecycle", "datasets")}
    return {**facts, "params": dict(run.params), "tags": tags, "points": points, "files": files}


def _number(value: float) -> str:
    """A value as text; MLflow's databases keep infinities as the largest number."""
    return "inf" if value >= 1.7e308 else "-inf" if value <= -1.7e308 else "nan" if math.isnan(value) else repr(value)


def _model(store: Store, name: str, folder: Path) -> dict[str, Any]:
    [model] = [each for each in store.registered() if each.name == name]
    versions = {}
    for version in store.versions(name):
        target = folder / name / str(version.number)
        own = ("signature.json", "example.json", "environment.json", "manifest.json")
        files = {file: (target / file).read_bytes() for file in store.fetch_version(version, target) if file not in own}
        tags = {tag: value for tag, value in version.tags.items() if not tag.startswith("bedplate.")}
        versions[version.number] = {"description": version.description, "stage": version.stage, "tags": tags, "files": files}
    return {"description": model.description, "tags": dict(model.tags), "aliases": dict(model.aliases), "versions": versions}
