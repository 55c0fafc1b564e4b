"""A store written to a server by MLflow's REST API: what is read there is what was read here; done again it adds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.mlflow_write import RestWriter
from bedplate.models.foreign.records import Run
from models.foreign.stores import everything, mlflow_store


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "bedplate.yaml").write_text("project: target\n")
    with open_workspace(tmp_path / "project") as workspace, tracking_served(workspace, Place()) as served:
        yield served


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(mlflow_store(tmp_path / "mlflow"))) as store:
        yield store


def test_everything_arrives_once(address: str, source: SqliteStore, tmp_path: Path) -> None:
    told: list[str] = []
    with closing(RestStore(address)) as target:
        for expected in ((4, 11, 4, 2, 0), (0, 0, 0, 0, 6)):
            writer = RestWriter(address)
            made = writer.write(source, told.append)
            writer.store.close()
            assert (made.runs, made.points, made.files, made.versions, made.known) == expected
        assert everything(target, tmp_path / "there") == everything(source, tmp_path / "here")
    assert "wine: first" in told


class Broken(SqliteStore):
    """A store that fails in the middle, as a killed export does."""

    def fetch(self, run: Run, name: str, target: Path) -> None:
        if name == "notes.txt":
            raise DataError("the disk is gone")
        super().fetch(run, name, target)


def test_an_export_that_was_cut_short_is_ended_by_the_next_one(address: str, source: SqliteStore, tmp_path: Path) -> None:
    with closing(Broken(tmp_path / "mlflow" / "store.db")) as broken:
        writer = RestWriter(address)
        try:
            with pytest.raises(DataError, match="the disk is gone"):
                writer.write(broken, lambda _: None)
        finally:
            writer.store.close()
    with closing(RestStore(address)) as target:
        writer = RestWriter(address)
        try:
            writer.write(source, lambda _: None)
        finally:
            writer.store.close()
        [wine] = [each for each in target.experiments() if each.name == "wine"]
        whole = [run for run in target.runs(wine.id) if run.lifecycle == "active"]
        assert sorted(run.name for run in whole) == ["first", "second", "still on"]
        [first] = [run for run in whole if run.name == "first"]
        assert len(target.points(first.id)) == 10
        assert len(target.artifacts(first)) >= 4
