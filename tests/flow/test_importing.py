"""Other trackers' stores brought into the ledger: whole, once, also when the import is killed; and out again, equal."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError
from bedplate.core.package import open_package
from bedplate.flow.deciding import check
from bedplate.flow.facts import location_of
from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.importing import bring
from bedplate.flow.tracked import tracked
from bedplate.flow.workspace import Workspace, open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.wandb import WandbStore
from bedplate.models.tracking import drafts
from models.foreign.stores import everything, mlflow_store, wandb_folder
from models.packaging.test_formats import Evil


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "bedplate.yaml").write_text("project: cellar\n")
    with open_workspace(tmp_path / "project") as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(mlflow_store(tmp_path / "mlflow"))) as opened:
        yield opened


def test_an_mlflow_store_comes_in_whole_and_goes_out_as_it_was(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    brought = bring(workspace, store)
    assert (brought.runs, brought.points, brought.files, brought.versions, brought.left) == (4, 11, 4, 2, [])
    with tracked(workspace) as here:
        assert everything(here, tmp_path / "here") == everything(store, tmp_path / "there")
    runs = {run.tags["mlflow.runName"]: run for run in workspace.records.runs.values()}
    assert (runs["first"].status, runs["second"].status, runs["still on"].status) == ("succeeded", "failed", "running")
    assert runs["first"].metrics["loss"] == pytest.approx(1 / 6)
    assert workspace.ledger.verify().seq == workspace.ledger.head().seq


def test_imported_twice_it_is_there_once(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    bring(workspace, store)
    with tracked(workspace) as here:
        before, head = everything(here, tmp_path / "one"), workspace.ledger.head()
    again = bring(workspace, store)
    assert (again.runs, again.points, again.files, again.versions, again.known) == (0, 0, 0, 0, 6)
    assert workspace.ledger.head() == head, "not one event more"
    with tracked(workspace) as here:
        assert everything(here, tmp_path / "two") == before


def test_a_run_that_went_on_is_brought_in_anew_without_doubling(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    bring(workspace, store)
    with closing(sqlite3.connect(tmp_path / "mlflow" / "store.db")) as database:
        [(run,)] = database.execute("SELECT run_uuid FROM runs WHERE name = 'still on'").fetchall()
        database.execute("INSERT INTO metrics VALUES ('loss', 0.75, 1700000300500, ?, 4, 0)", (run,))
        database.execute("UPDATE runs SET status = 'FINISHED', end_time = 1700000301000 WHERE run_uuid = ?", (run,))
        database.commit()
    for _ in range(2):
        bring(workspace, store)
    with tracked(workspace) as here:
        assert [tuple(point) for point in here.points(run)] == [("loss", 0.75, 1_700_000_300_500, 4)]
    assert workspace.records.runs[run].status == "succeeded"


KILLED = """
import sys
from contextlib import closing
from pathlib import Path
from bedplate.flow.importing import bring
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_sqlite import SqliteStore

def tell(text):
    print(text, flush=True)
    sys.stdin.readline()

with closing(SqliteStore(Path(sys.argv[2]))) as store, open_workspace(Path(sys.argv[1])) as workspace:
    bring(workspace, store, "", tell)
"""


def test_an_import_that_was_killed_anywhere_is_ended_by_the_next(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED, str(tmp_path / "project"), str(tmp_path / "mlflow" / "store.db")]
    for lines in (1, 3, 6):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        for place in range(lines):
            if not process.stdout.readline():
                break
            process.stdin.write("\n" if place < lines - 1 else "")
            process.stdin.flush()
        if lines == 3:
            process.stdin.write("\n")
            process.stdin.flush()
            time.sleep(0.01 * (os.getpid() % 5))  # somewhere within a run
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
    workspace.refresh()
    bring(workspace, store)
    with tracked(workspace) as here:
        assert everything(here, tmp_path / "here") == everything(store, tmp_path / "there")


def test_versions_are_sealed_and_aliases_moved_by_a_signed_override(workspace: Workspace, store: SqliteStore) -> None:
    bring(workspace, store)
    version = workspace.records.version("cru@champion")
    assert version.number == 1
    manifest = open_package(location_of(workspace, version), version.digest)
    assert "model.safetensors" in manifest["files"]
    assert version.meta["mlflow"]["source"].startswith("mlflow-artifacts:/")
    assert check(workspace, version, "champion").holds
    assert workspace.records.tagged["cru@1"] == {"ok": "yes"}


def test_a_version_with_a_pickle_is_kept_as_files_and_cannot_be_loaded(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    [folder] = (tmp_path / "mlflow").rglob("artifacts/model")
    (folder / "model.safetensors").unlink()
    (folder / "model.pkl").write_bytes(pickle.dumps(Evil()))
    brought = bring(workspace, store)
    assert any("cru@1 cannot be loaded: loading model.pkl could run code" in line for line in brought.left)
    version = workspace.records.version("cru@1")
    assert (location_of(workspace, version) / "model.pkl").is_file()
    with pytest.raises(BedplateError, match="cannot be read"):
        open_package(location_of(workspace, version), version.digest)


def test_names_that_are_taken_are_refused_unless_they_get_a_beginning(tmp_path: Path, store: SqliteStore) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "bedplate.yaml").write_text("project: cellar\nmodels: {cru: {from: 'dir://base'}}\n")
    with open_workspace(tmp_path / "taken") as workspace:
        with pytest.raises(DataError, match=r"has a model of that name.*--prefix"):
            bring(workspace, store)
        assert workspace.ledger.head().seq == 0, "nothing was brought"
        bring(workspace, store, "old-")
        assert {version.ref for version in workspace.records.versions["old-cru"]} == {"old-cru@1", "old-cru@2"}
        with tracked(workspace) as here:
            assert {each.name for each in here.experiments()} >= {"old-wine", "old-old"}


def test_files_that_cannot_be_reached_are_told_and_all_else_is_there(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow" / "store.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/2/artifacts' WHERE name = 'first'")
        database.commit()
    brought = bring(workspace, store)
    assert brought.runs == 4
    assert [line for line in brought.left if "artifacts of run" in line]


def test_an_offline_run_of_wandb_comes_in_once(workspace: Workspace, tmp_path: Path) -> None:
    for expected in ((1, 23, 2, 0), (0, 0, 0, 1)):
        brought = bring(workspace, WandbStore(wandb_folder(tmp_path) if expected[0] else tmp_path))
        assert (brought.runs, brought.points, brought.files, brought.known) == expected
    run = workspace.records.runs["wandb-old-abc123"]
    assert run.params["opt.name"] == "adam"
    assert run.metrics["loss"] == 0.125
    with tracked(workspace) as here:
        [experiment] = here.experiments()
        assert experiment.name == "old"
        points = [point for point in here.points(run.id) if point.name == "loss"]
        assert [point.step for point in points] == [0, 1, 2, 3, 4, 5, 10, 11]


def test_a_server_comes_in_as_its_database_does(workspace: Workspace, store: SqliteStore, tmp_path: Path) -> None:
    bring(workspace, store)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "bedplate.yaml").write_text("project: second\n")
    with tracking_served(workspace, Place()) as address, open_workspace(tmp_path / "second") as second:
        with closing(RestStore(address)) as server:
            brought = bring(second, server)
            assert (brought.runs, brought.points, brought.files, brought.versions, brought.left) == (4, 11, 4, 2, [])
            assert bring(second, server).runs == 0
        with tracked(second) as there:
            assert everything(there, tmp_path / "there") == everything(store, tmp_path / "store")


def test_a_run_of_that_id_that_was_logged_here_is_left_alone(workspace: Workspace, store: SqliteStore) -> None:
    [run] = [run for run in store.runs("1") if run.name == "second"]
    own = drafts.run_logged(run.id, "0", "Default", name="mine", user="ann", start_ms=5)
    workspace.ledger.append([drafts.experiment_created("0", "Default", at_ms=0), own])
    workspace.refresh()
    brought = bring(workspace, store)
    assert [line for line in brought.left if run.id in line] == [f"run {run.id}: a run of this id is here, and did not come from there"]
    assert workspace.records.runs[run.id].tags["mlflow.runName"] == "mine"
