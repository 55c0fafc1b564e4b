"""Reading columns of a dataset: equal to what Arrow reads, and in one piece where that can be."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from bedplate.data.scan import read

ROWS = 1000
TIME = pa.timestamp("us", tz="UTC")


def plain(first: int = 0) -> pa.Table:
    """Columns of all the types that a dataset has, without nulls."""
    numbers = range(first, first + ROWS)
    return pa.table(
        {
            "n": pa.array(numbers, pa.int64()),
            "small": pa.array(numbers, pa.int32()),
            "x": pa.array([number / 7 for number in numbers]),
            "s": pa.array([str(number) for number in numbers]),
            "b": pa.array([number % 3 == 0 for number in numbers]),
            "t": pa.array([datetime.fromtimestamp(number, UTC) for number in numbers], TIME),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of several row groups."""
    for number in range(3):
        pq.write_table(plain(number * ROWS), tmp_path / f"{number}.parquet", row_group_size=300)
    return tmp_path


def test_it_is_what_arrow_reads(folder: Path) -> None:
    dataset = pads.dataset(folder)
    assert read(dataset, dataset.schema.names).equals(dataset.to_table())
    assert read(dataset, ["t", "n"]).equals(dataset.to_table(columns=["t", "n"]))


def test_numbers_and_times_are_in_one_piece(folder: Path) -> None:
    found = read(pads.dataset(folder), ["n", "x", "t"])
    assert [found.column(name).num_chunks for name in found.column_names] == [1, 1, 1]


def test_nulls_that_come_late_are_kept(tmp_path: Path) -> None:
    with_nulls = pa.table({"n": pa.array([None, 7, None], pa.int64()), "t": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, None], TIME)})
    for number, table in enumerate((plain(), with_nulls, plain(ROWS))):
        pq.write_table(table.select(["n", "t"]), tmp_path / f"{number}.parquet")
    dataset = pads.dataset(tmp_path)
    found = read(dataset, ["n", "t"])
    assert found.equals(dataset.to_table())
    assert found.column("n").null_count == 2
    assert found.slice(ROWS, 3).column("n").to_pylist() == [None, 7, None]


def test_a_filter_leaves_its_rows(folder: Path) -> None:
    found = read(pads.dataset(folder), ["s", "n"], pc.field("n") >= 2 * ROWS)
    assert sorted(found.column("n").to_pylist()) == list(range(2 * ROWS, 3 * ROWS))
    assert found.column_names == ["s", "n"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    pq.write_table(plain().slice(0, 0), tmp_path / "0.parquet")
    found = read(pads.dataset(tmp_path), ["n", "s"])
    assert (found.num_rows, found.schema) == (0, pa.schema([("n", pa.int64()), ("s", pa.string())]))


def test_what_was_read_outlives_its_table(folder: Path) -> None:
    column = read(pads.dataset(folder), ["n"]).column("n")
    assert pc.sum(column).as_py() == sum(range(3 * ROWS))
