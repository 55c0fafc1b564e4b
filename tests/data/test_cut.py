"""Reading a cut: order, derived columns, the time at which a row was known."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import Dataset
from bedplate.data.cut import read_cut
from bedplate.data.lake import Lake, Write
from bedplate.data.schema import SYSTEM

COLUMNS = {"name": "string", "dep": "float", "arr": "float", "told": "timestamp"}
STORED = pa.schema(
    [("name", pa.string()), ("dep", pa.float64()), ("arr", pa.float64()), ("told", pa.timestamp("us", tz="UTC")), *SYSTEM],
)


def at(hour: int) -> datetime:
    return datetime(2013, 1, 1, hour, tzinfo=UTC)


ROWS: list[Mapping[str, Any]] = [
    {"name": "d", "dep": 1.0, "arr": 2.0, "told": at(4), "_arrived_at": at(3), "_partition": 1, "_offset": 0},
    {"name": "b", "dep": 5.0, "arr": 1.5, "told": at(1), "_arrived_at": at(2), "_partition": 0, "_offset": 1},
    {"name": "c", "dep": None, "arr": 9.0, "told": None, "_arrived_at": at(2), "_partition": 0, "_offset": 2},
    {"name": "a", "dep": 2.0, "arr": 2.0, "told": at(6), "_arrived_at": at(1), "_partition": 0, "_offset": 0},
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Version 1 has half of the rows, version 2 all of them."""
    lake = Lake(tmp_path)
    table = lake.create("t", STORED)
    for part in (ROWS[:2], ROWS[2:]):
        table.write(lambda part=part: Write(pa.Table.from_pylist(part, schema=STORED), {}))
    return lake


def dataset(**fields: Any) -> Dataset:
    return Dataset.model_validate({"source": "t.csv", "columns": COLUMNS, "known_at": "told", **fields})


def test_rows_come_in_the_order_of_partition_and_offset(lake: Lake) -> None:
    table = read_cut(lake, "t", 2, dataset())
    assert table["name"].to_pylist() == ["a", "b", "c", "d"]
    assert table.column_names == ["name", "dep", "arr", "told", "_known_at", "_arrived_at", "_partition", "_offset"]
    assert table.schema.field("_known_at").type == pa.timestamp("us", tz="UTC")
    assert read_cut(lake, "t", 1, dataset())["name"].to_pylist() == ["b", "d"]


def test_a_row_is_known_at_the_later_of_its_word_and_its_arrival(lake: Lake) -> None:
    assert read_cut(lake, "t", 2, dataset())["_known_at"].to_pylist() == [at(6), at(2), at(2), at(4)]


def test_a_trusted_backfill_is_taken_at_its_word(lake: Lake) -> None:
    assert read_cut(lake, "t", 2, dataset(backfill="trusted"))["_known_at"].to_pylist() == [at(6), at(1), None, at(4)]


def test_without_a_word_the_arrival_counts(lake: Lake) -> None:
    assert read_cut(lake, "t", 2, dataset(known_at=None))["_known_at"].to_pylist() == [at(1), at(2), at(2), at(3)]
    with pytest.raises(DataError, match="trusted backfill needs the column"):
        read_cut(lake, "t", 2, dataset(known_at=None, backfill="trusted"))


def test_derived_columns_follow_the_stored_ones(lake: Lake) -> None:
    expressions = {
        "gain": "arr - dep",
        "hour": "hour(told)",
        "late": "arr > dep",
        "text": "upper(name) -- a remark",
        "tenth": "dep * 0.1::DECIMAL(4, 2)",
        "day": "told::DATE",
        "next": "told + INTERVAL 1 HOUR",
    }
    table = read_cut(lake, "t", 2, dataset(derive=expressions))
    assert table.column_names[4:11] == list(expressions)
    assert [str(table.schema.field(name).type) for name in expressions] == [
        "double",
        "int64",
        "bool",
        "string",
        "double",
        "timestamp[us, tz=UTC]",
        "timestamp[us, tz=UTC]",
    ]
    assert table["gain"].to_pylist() == [0.0, -3.5, None, 1.0]
    assert table["hour"].to_pylist() == [6, 1, None, 4]
    assert table["text"].to_pylist() == ["A", "B", "C", "D"]
    assert table["next"].to_pylist() == [at(7), at(2), None, at(5)]


def test_a_derived_column_can_say_when_a_row_was_known(lake: Lake) -> None:
    declared = dataset(known_at="later", derive={"later": "told + INTERVAL 2 HOUR"}, backfill="trusted")
    assert read_cut(lake, "t", 2, declared)["_known_at"].to_pylist() == [at(8), at(3), None, at(6)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("arr - depp", r"dataset 't', column 'x'.*Referenced column \"depp\" not found.*did you mean 'dep'"),
        ("arr -", "syntax error"),
        ("arr; DROP TABLE stored", "syntax error"),
        ("avg(arr)", "1 values for 4 rows.*not an aggregate"),
        ("unnest([arr, dep])", "8 values for 4 rows"),
        ("[arr]", "has type list"),
        ("arr + told", "No function matches"),
        ("name::INT", "Could not convert"),
        ("(SELECT content FROM read_text('/etc/hostname'))", "disabled by configuration"),
        ("(SELECT x FROM stored_elsewhere)", "does not exist"),
    ],
)
def test_an_expression_that_is_wrong_is_an_error_that_names_it(lake: Lake, expression: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_cut(lake, "t", 2, dataset(derive={"x": expression}))


def test_what_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(NotFound, match="no such version"):
        read_cut(lake, "t", 9, dataset())
    with pytest.raises(NotFound, match="no such table"):
        read_cut(lake, "u", 0, dataset())
    with pytest.raises(DataError, match=r"no such column.*'names'.*did you mean 'name'"):
        read_cut(lake, "t", 2, dataset(columns={"names": "string"}))
    with pytest.raises(DataError, match=r"known_at of dataset 't' names no column.*did you mean 'told'"):
        read_cut(lake, "t", 2, dataset(known_at="tolt"))
    with pytest.raises(DataError, match=r"known_at of dataset 't' is no timestamp.*declare name: timestamp"):
        read_cut(lake, "t", 2, dataset(known_at="name"))


def test_without_declared_columns_all_stored_ones_are_read(lake: Lake) -> None:
    assert read_cut(lake, "t", 2, dataset(columns={})).column_names[:5] == ["name", "dep", "arr", "told", "_known_at"]


def test_only_what_is_asked_for_is_read(lake: Lake) -> None:
    whole = read_cut(lake, "t", 2, dataset())
    some = read_cut(lake, "t", 2, dataset(), columns=["dep", "_known_at"])
    assert set(some.column_names) == {"dep", "told", "_known_at", "_arrived_at", "_partition", "_offset"}
    assert some.equals(whole.select(some.column_names))
    trusted = read_cut(lake, "t", 2, dataset(backfill="trusted"), columns=["dep"])
    assert set(trusted.column_names) == {"dep", "told", "_known_at", "_partition", "_offset"}
    assert trusted["_known_at"].to_pylist() == trusted["told"].to_pylist()


def test_expressions_may_read_what_was_not_asked_for(lake: Lake) -> None:
    table = read_cut(lake, "t", 2, dataset(derive={"gain": "dep - arr"}), columns=["gain"])
    assert table["gain"].to_pylist() == [0.0, 3.5, None, -1.0]


def test_asking_for_what_is_not_there_reads_all_that_is(lake: Lake) -> None:
    assert read_cut(lake, "t", 2, dataset(), columns=["dap"]).column_names == read_cut(lake, "t", 2, dataset()).column_names
