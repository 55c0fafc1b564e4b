"""Parquet: types that convert without loss, rows that do not, columns that cannot."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data import source_parquet
from bedplate.data.schema import ARROW, Batch, Shape
from bedplate.data.source_parquet import ParquetFile

AT = datetime(2013, 1, 1, 10, tzinfo=UTC)


def read(tmp_path: Path, column: pa.Array[Any], kind: ColumnType) -> list[Batch]:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": column, "other": pa.nulls(len(column), pa.string())}), path)
    return list(ParquetFile(path).batches(Shape("t", {"x": kind}), 0))


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (pa.array([1, None], pa.int8()), "int", [1, None]),
        (pa.array([3.0, float("nan")]), "int", [3, None]),
        (pa.array([1, 2], pa.uint32()), "float", [1.0, 2.0]),
        (pa.array([0.1], pa.float32()), "float", [0.10000000149011612]),
        (pa.array([1.5, float("nan")]), "float", [1.5, None]),
        (pa.array([Decimal("1.25")]), "float", [1.25]),
        (pa.array([True, None]), "bool", [True, None]),
        (pa.array(["a", None], pa.large_string()), "string", ["a", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"]),
        (pa.array([AT], pa.timestamp("ns", "Europe/Berlin")), "timestamp", [AT]),
        (pa.array([AT.replace(tzinfo=None)], pa.timestamp("ms")), "timestamp", [AT]),
        (pa.array([date(2013, 1, 1)]), "timestamp", [AT.replace(hour=0)]),
        (pa.array(["2013-01-01T10:00:00"]), "timestamp", [AT]),
    ],
)
def test_values_convert_to_the_declared_type(tmp_path: Path, column: pa.Array[Any], kind: ColumnType, expected: list[object]) -> None:
    (batch,) = read(tmp_path, column, kind)
    assert batch.good.schema.field("x").type == ARROW[kind]
    assert batch.good["x"].to_pylist() == expected
    assert batch.bad.num_rows == 0
    assert dict(batch.fields) == {"x": len(expected), "other": len(expected)}


def test_rows_that_lose_something_are_set_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_parquet, "_ROWS", 2)
    batches = read(tmp_path, pa.array([1.0, 1.5, 2.0, float("inf"), 3.0]), "int")
    assert [offset for batch in batches for offset in batch.good["_offset"].to_pylist()] == [0, 2, 4]
    bad = [row for batch in batches for row in batch.bad.to_pylist()]
    assert [(row["_offset"], row["problem"], row["raw"]) for row in bad] == [
        (1, "x: not an int", b'{"x": 1.5}'),
        (3, "x: not an int", b'{"x": Infinity}'),
    ]


@pytest.mark.parametrize(
    ("column", "kind", "fix"),
    [
        (pa.array(["1"]), "int", "declare it as string"),
        (pa.array([1]), "string", "declare it as int"),
        (pa.array([1]), "timestamp", "declare it as int"),
        (pa.array([b"x"]), "string", "leave it out"),
        (pa.array([[1]]), "float", "leave it out"),
    ],
)
def test_a_column_of_another_kind_is_an_error_of_the_file(tmp_path: Path, column: pa.Array[Any], kind: ColumnType, fix: str) -> None:
    with pytest.raises(DataError, match=rf"column 'x' of x\.parquet holds .*not {kind}.*{fix}"):
        read(tmp_path, column, kind)


def test_columns_are_inferred_from_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {"i": [1], "f": [1.5], "s": ["a"], "b": [True], "t": [AT], "d": [date(2013, 1, 1)], "raw": [b"x"], "list": [[1]]}
    pq.write_table(pa.table(columns), path)
    assert ParquetFile(path).infer() == {"i": "int", "f": "float", "s": "string", "b": "bool", "t": "timestamp", "d": "timestamp"}


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"name": ["a"]}), path)
    with pytest.raises(DataError, match="did you mean 'name'"):
        list(ParquetFile(path).batches(Shape("t", {"names": "string"}), 0))
