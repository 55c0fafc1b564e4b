"""Parquet files: columns with types of their own, converted to the declared ones where no value is lost.

A column of another kind altogether (text for a number) is an error of the whole file, not of its rows. Of a row that is set apart, its
declared columns are kept as JSON.
Does not know: other formats (`sources`), tables or commits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.records import system_columns
from bedplate.data.schema import INSTANT, Batch, Parsed, Shape, declared_type, need_columns, parse_text, split

_ROWS = 100_000


class ParquetFile:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types, from the file's schema; nested and binary columns are left out."""
        kinds = {field.name: declared_type(field.type) for field in pq.read_schema(self._path)}
        return {name: kind for name, kind in kinds.items() if kind is not None}

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        """All rows, in order. Raises DataError when a declared column is missing or of another kind."""
        schema = pq.read_schema(self._path)
        need_columns(shape, schema.names, self._path.name)
        for name, kind in shape.columns.items():
            found = declared_type(schema.field(name).type)
            if found not in _READS[kind]:
                what = f"column {name!r} of {self._path.name} holds {schema.field(name).type}, not {kind}"
                raise DataError(what, value=name, fix=f"declare it as {found}" if found else "leave it out of `columns:`")
        done = 0
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_ROWS, columns=list(shape.columns)):
                parsed = {name: _parse(batch.column(name), kind) for name, kind in shape.columns.items()}
                system = system_columns(arrived_at_us, 0, np.arange(done, done + batch.num_rows))
                fitting = split(shape, parsed, system, lambda rows, batch=batch: _lines(batch, rows))  # type: ignore[misc] # mypy cannot infer a lambda's default
                done += batch.num_rows
                yield Batch(fitting.good, fitting.bad, dict.fromkeys(schema.names, batch.num_rows))


_READS: dict[ColumnType, tuple[ColumnType, ...]] = {
    "string": ("string",),
    "int": ("int", "float"),
    "float": ("int", "float"),
    "bool": ("bool",),
    "timestamp": ("timestamp", "string"),
}


def _parse(column: pa.Array[Any], kind: ColumnType) -> Parsed:
    if pat.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    found = declared_type(column.type)
    if found == "timestamp":
        return Parsed(pc.cast(column, INSTANT, safe=False), None, column)
    if found == "bool":
        return Parsed(column, None, column)
    if pat.is_floating(column.type):
        column = pc.cast(column, pa.float64())  # so that a narrower float keeps its value, not its shortest text
    return parse_text(pc.cast(column, pa.string()), kind)


def _lines(batch: pa.RecordBatch, rows: Sequence[int]) -> list[bytes]:
    return [json.dumps(batch.slice(row, 1).to_pylist()[0], default=str).encode() for row in rows]
