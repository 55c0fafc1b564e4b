"""A version as a file: the rows of then, in the order of their source, in a format that others read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from bedplate.core.errors import DataError
from bedplate.data.checkout import check_out
from bedplate.data.lake import Lake, Table, Write

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ('the "name"', pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)


def rows(offsets: list[int]) -> pa.Table:
    at = [datetime(2024, 1, 1, 0, 0, offset, tzinfo=UTC) for offset in offsets]
    values = [[100 + offset for offset in offsets], [None if offset % 2 else "ü" for offset in offsets], at, [0] * len(offsets), offsets]
    return pa.table([pa.array(each, field.type) for each, field in zip(values, SCHEMA, strict=True)], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = Lake(tmp_path / "lake").create("t", SCHEMA)
    for offsets in ([3, 2], [1, 0], [4]):
        made.write(lambda offsets=offsets: Write(rows(offsets), {"m": 1}))
    return made


def test_parquet_has_the_rows_of_the_version_in_order_with_their_types(table: Table, tmp_path: Path) -> None:
    assert check_out(table, tmp_path / "all.parquet") == 5
    assert check_out(table.at(2), tmp_path / "earlier.parquet") == 4
    read = pq.read_table(tmp_path / "earlier.parquet")
    assert read["id"].to_pylist() == [100, 101, 102, 103]
    assert read.schema.names == ["id", 'the "name"', "at"], "what Bedplate adds to a row stays in the lake"
    assert read.schema.field("at").type == SCHEMA.field("at").type
    assert pq.read_table(tmp_path / "all.parquet").num_rows == 5


def test_arrow_and_csv_hold_the_same(table: Table, tmp_path: Path) -> None:
    for ending in (".arrow", ".csv"):
        check_out(table, tmp_path / f"t{ending}")
    with pa.memory_map(str(tmp_path / "t.arrow")) as file:
        arrow = pa.ipc.open_file(file).read_all()
    assert arrow['the "name"'].to_pylist() == ["ü", None, "ü", None, "ü"]
    read = pacsv.read_csv(tmp_path / "t.csv")
    assert read["id"].to_pylist() == arrow["id"].to_pylist()
    assert read.schema.names == arrow.schema.names


def test_no_rows_are_a_file_with_columns(table: Table, tmp_path: Path) -> None:
    assert check_out(table.at(0), tmp_path / "none.parquet") == 0
    assert pq.read_table(tmp_path / "none.parquet").schema.names == ["id", 'the "name"', "at"]


def test_an_unknown_ending_is_refused_and_nothing_is_left_of_a_file_that_failed(table: Table, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names no format \(got 't.xlsx'\)"):
        check_out(table, tmp_path / "t.xlsx")
    for path in (tmp_path / "lake" / "t").glob("*.parquet"):
        path.write_bytes(b"nothing")
    with pytest.raises(Exception, match="arquet"):
        check_out(table, tmp_path / "out" / "t.parquet")
    assert list((tmp_path / "out").iterdir()) == []
