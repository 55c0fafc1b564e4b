"""An MLflow database read as it lies: everything that was put in with MLflow's own client comes out."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from models.foreign.stores import everything, mlflow_store

START_MS = 1_700_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    opened = SqliteStore(mlflow_store(tmp_path / "mlflow"))
    yield opened
    opened.close()


def test_runs_with_every_point_param_tag_dataset_and_file(store: SqliteStore, tmp_path: Path) -> None:
    found = everything(store, tmp_path / "fetched")["experiments"]
    assert set(found) == {"wine", "old"}
    assert found["wine"]["tags"] == {"team": "cellar"}
    assert (found["old"]["lifecycle"], found["old"]["runs"]["deleted one"]["lifecycle"]) == ("deleted", "deleted")
    first = found["wine"]["runs"]["first"]
    losses = [("loss", START_MS + 1000 * step, step, repr(1 / (step + 1))) for step in range(6)]
    assert first["points"] == [
        *losses,
        ("loss", START_MS + 9000, 2, "0.5"),
        ("odd", START_MS, 0, "nan"),
        ("odd", START_MS + 1, 1, "inf"),
        ("odd", START_MS + 2, -3, "-inf"),
    ]
    assert first["params"] == {"lr": "0.1", "long": "x" * 2000}
    assert (first["tags"]["note"], first["user"], first["status"]) == ("Zürich\nand more", "ann", "FINISHED")
    assert (first["start_ms"], first["end_ms"]) == (START_MS, START_MS + 60_000)
    assert set(first["files"]) == {"notes.txt", "deep/er/notes.txt", "model/MLmodel", "model/model.safetensors"}
    assert first["files"]["deep/er/notes.txt"] == b"deeper"
    [dataset] = first["datasets"]
    assert dataset["dataset"] == {"name": "vintages", "digest": "abc", "source_type": "local", "source": '{"uri": "x.csv"}'}
    assert dataset["tags"] == {"mlflow.data.context": "training"}
    running = found["wine"]["runs"]["still on"]
    assert (running["status"], running["end_ms"]) == ("RUNNING", None)


def test_the_registry_without_versions_that_were_deleted(store: SqliteStore, tmp_path: Path) -> None:
    models = everything(store, tmp_path / "fetched")["models"]
    assert models["empty"]["versions"] == {}
    assert (models["cru"]["description"], models["cru"]["tags"], models["cru"]["aliases"]) == ("what it is", {"tier": "1"}, {"champion": 1})
    assert set(models["cru"]["versions"]) == {1, 2}
    assert models["cru"]["versions"][1]["tags"] == {"ok": "yes"}
    assert models["cru"]["versions"][2]["stage"] == "Staging"
    assert set(models["cru"]["versions"][1]["files"]) == {"MLmodel", "model.safetensors"}


def test_points_are_floats_and_nan_is_nan(store: SqliteStore) -> None:
    [run] = [run for run in store.runs("1") if run.name == "first"]
    assert math.isnan(next(point.value for point in store.points(run.id) if (point.name, point.step) == ("odd", 0)))


def test_the_store_is_not_written(tmp_path: Path) -> None:
    file = mlflow_store(tmp_path / "mlflow")
    before = file.read_bytes()
    opened = SqliteStore(file)
    everything(opened, tmp_path / "fetched")
    opened.close()
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["artifacts", "store.db"]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be looked at" * 20)
    sqlite3.connect(tmp_path / "other.db").close()
    for name, message in (("text.db", "the store cannot be read"), ("other.db", "no MLflow store"), ("none.db", "no such file")):
        with pytest.raises(DataError, match=message):
            SqliteStore(tmp_path / name)


def test_a_store_of_an_older_mlflow_lacks_columns_and_tables(tmp_path: Path) -> None:
    file = mlflow_store(tmp_path / "mlflow")
    database = sqlite3.connect(file)
    for table in ("registered_models", "model_versions", "inputs", "datasets", "input_tags", "experiment_tags", "registered_model_aliases"):
        database.execute(f"DROP TABLE {table}")
    database.execute("ALTER TABLE experiments RENAME COLUMN creation_time TO was_creation_time")
    database.commit()
    database.close()
    old = SqliteStore(file)
    try:
        assert old.registered() == []
        [wine] = [each for each in old.experiments() if each.name == "wine"]
        assert (wine.created_ms, dict(wine.tags)) == (0, {})
        [first] = [run for run in old.runs(wine.id) if run.name == "first"]
        assert first.datasets == ()
        assert len(old.points(first.id)) == 10
    finally:
        old.close()


@pytest.mark.parametrize("source", ["runs:/RUN/model", "models:/m-1"])
def test_versions_that_point_to_a_run_or_a_logged_model_lead_to_their_files(tmp_path: Path, source: str) -> None:
    file = mlflow_store(tmp_path / "mlflow")
    database = sqlite3.connect(file)
    [(run, place)] = database.execute("SELECT run_uuid, artifact_uri FROM runs WHERE name = 'first'").fetchall()
    database.execute("UPDATE model_versions SET storage_location = NULL, source = ?", (source.replace("RUN", run),))
    columns = [row[1] for row in database.execute("PRAGMA table_info(logged_models)")]
    given = {"model_id": "m-1", "artifact_location": f"{place}/model", "lifecycle_stage": "active", "experiment_id": 1}
    facts = {row[1]: 0 if "INT" in row[2] else "x" for row in database.execute("PRAGMA table_info(logged_models)")}
    values = [given.get(column, facts[column]) for column in columns]
    database.execute(f"INSERT INTO logged_models VALUES ({', '.join('?' * len(columns))})", values)
    database.commit()
    database.close()
    opened = SqliteStore(file)
    try:
        assert opened.fetch_version(opened.versions("cru")[0], tmp_path / "out") == ["MLmodel", "model.safetensors"]
    finally:
        opened.close()
