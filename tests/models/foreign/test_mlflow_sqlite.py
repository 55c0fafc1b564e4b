"""An MLflow database read as it lies: everything that was put in with MLflow's own client comes out."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
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


def changed(folder: Path, *statements: str) -> SqliteStore:
    """A store in which somebody changed something with SQL."""
    file = mlflow_store(folder)
    with closing(sqlite3.connect(file)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return SqliteStore(file)


@pytest.mark.parametrize("name", ["a#b", "what?", "100%20", "a b", "größe"])
def test_a_folder_of_any_name_can_hold_a_store(tmp_path: Path, name: str) -> None:
    with closing(SqliteStore(mlflow_store(tmp_path / name))) as opened:
        assert {"wine", "old"} <= {each.name for each in opened.experiments()}


def test_empty_columns_are_read_as_nothing(tmp_path: Path) -> None:
    statement = "UPDATE runs SET name = NULL, user_id = NULL, start_time = NULL, artifact_uri = NULL WHERE name = 'first'"
    with closing(changed(tmp_path, statement, "UPDATE experiments SET artifact_location = NULL")) as opened:
        [wine] = [each for each in opened.experiments() if each.name == "wine"]
        assert wine.artifact_location == ""
        first = next(iter(opened.runs(wine.id)))
        assert (first.name, first.user, first.start_ms, first.artifact_uri) == ("", "", 0, ""), "and without a start it is the oldest"


@pytest.mark.parametrize("key", ["quote ' here", "semi; DROP TABLE runs", "ünder/score", "x" * 250])
def test_names_of_metrics_and_params_are_never_part_of_a_query(tmp_path: Path, key: str) -> None:
    quoted = key.replace("'", "''")
    with closing(
        changed(tmp_path, f"UPDATE metrics SET key = '{quoted}' WHERE key = 'loss'", f"UPDATE params SET key = '{quoted}' WHERE key = 'lr'")
    ) as opened:
        [first] = [run for run in opened.runs("1") if run.name == "first"]
        assert first.params[key] == "0.1"
        assert sum(point.name == key for point in opened.points(first.id)) == 7


def test_an_unknown_run_or_model_has_nothing(store: SqliteStore) -> None:
    assert store.points("nothing") == []
    assert store.versions("nothing") == []
    assert list(store.runs("99")) == []


def test_a_version_whose_run_is_gone_is_named(tmp_path: Path) -> None:
    with closing(changed(tmp_path, "UPDATE model_versions SET storage_location = NULL, source = 'runs:/gone/model'")) as opened:
        version = opened.versions("cru")[0]
        assert version.source == "runs:/gone/model"
        with pytest.raises(DataError, match=r"run that holds a version's files is not in the store .*runs:/gone/model"):
            opened.fetch_version(version, tmp_path / "out")


def test_a_logged_model_that_is_gone_and_a_server_that_proxies_are_named(tmp_path: Path) -> None:
    for number, source in enumerate(("models:/m-404", "mlflow-artifacts:/1/x")):
        with closing(changed(tmp_path / str(number), f"UPDATE model_versions SET storage_location = NULL, source = '{source}'")) as opened:
            with pytest.raises(DataError, match=rf"cannot be read here .*{source}"):
                opened.fetch_version(opened.versions("cru")[0], tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "value", "shown"), [("current_stage", "NULL", "None"), ("status", "NULL", "READY"), ("run_id", "NULL", "")]
)
def test_what_a_version_does_not_say_is_mlflows_default(tmp_path: Path, column: str, value: str, shown: str) -> None:
    with closing(changed(tmp_path, f"UPDATE model_versions SET {column} = NULL WHERE name = 'cru' AND version = 1")) as opened:
        version = next(each for each in opened.versions("cru") if each.number == 1)
        assert {"current_stage": version.stage, "status": version.status, "run_id": version.run}[column] == shown


def test_a_store_that_its_server_still_writes_is_read_as_of_its_last_commit(tmp_path: Path) -> None:
    file = mlflow_store(tmp_path)
    with closing(sqlite3.connect(file)) as writer, closing(SqliteStore(file)) as opened:
        writer.execute("UPDATE experiments SET name = 'renamed' WHERE name = 'wine'")
        assert "wine" in {each.name for each in opened.experiments()}
        writer.commit()
        assert "renamed" in {each.name for each in opened.experiments()}
