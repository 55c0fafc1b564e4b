"""A store written to a server by MLflow's REST API: what is read there is what was read here; done again it adds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.mlflow_write import RestWriter, moved
from bedplate.models.foreign.records import Artifact, Experiment, Point, Registered, Run
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


@pytest.mark.parametrize(
    ("address", "now"),
    [
        ("/old/run/artifacts/model", "/new/run/model"),
        ("/old/run/artifacts", "/new/run"),
        ("/old/run/artifacts-2/model", None),
        ("/old/other", None),
        ("s3://bucket/run/model", "mlflow-artifacts:/1/model"),
        ("s3://bucket/run2/model", None),
        ("", None),
    ],
)
def test_what_lay_below_a_run_lies_below_what_it_became(address: str, now: str | None) -> None:
    places = {"": "/wrong", "/old/run/artifacts": "/new/run", "s3://bucket/run/": "mlflow-artifacts:/1/"}
    assert moved(address, places) == now


class Numbers:
    """A store of one run with more points, params and tags than one batch takes, and with values that JSON lacks."""

    identity = "numbers"
    run = Run(
        "r",
        "1",
        "many",
        status="KILLED",
        start_ms=5,
        end_ms=7,
        params={f"p{number:03}": str(number) for number in range(230)},
        tags={f"t{number:03}": "x" for number in range(230)},
    )

    def experiments(self) -> list[Experiment]:
        return [Experiment("0", "Default"), Experiment("1", "many")]

    def runs(self, experiment: str) -> list[Run]:
        return [self.run] if experiment == "1" else []

    def points(self, _run: str) -> list[Point]:
        odd = [Point("odd", value, 10.6, -1) for value in (math.nan, math.inf, -math.inf)]
        return [*(Point("loss", number / 7, 1000.0 + number, number) for number in range(2500)), *odd]

    def artifacts(self, _run: Run) -> list[Artifact]:
        return []

    def registered(self) -> list[Registered]:
        return []


def test_what_one_batch_does_not_take_goes_in_several_and_all_values_arrive(address: str) -> None:
    writer = RestWriter(address)
    with closing(writer.store):
        made = writer.write(Numbers(), lambda _: None)
        assert (made.experiments, made.runs, made.points) == (1, 1, 2503)
        there = {each.name: each for each in writer.store.experiments()}
        [run] = writer.store.runs(there["many"].id)
        assert run.params == Numbers.run.params
        assert {name: value for name, value in run.tags.items() if name.startswith("t")} == Numbers.run.tags
        assert (run.status, run.start_ms, run.end_ms, run.tags["bedplate.run"]) == ("KILLED", 5, 7, "r")
        points = writer.store.points(run.id)
        assert [(point.value, point.step) for point in points if point.name == "loss"] == [(number / 7, number) for number in range(2500)]
        assert sorted((repr(point.value), point.at_ms, point.step) for point in points if point.name == "odd") == [
            ("-inf", 11, -1),
            ("inf", 11, -1),
            ("nan", 11, -1),
        ]


def test_a_server_that_refuses_says_why(address: str) -> None:
    class Bad(Numbers):
        run = Run("r", "1", "bad", params={"": "a name that is none"})

    writer = RestWriter(address)
    with closing(writer.store), pytest.raises(DataError, match="the server refused: 400"):
        writer.write(Bad(), lambda _: None)
