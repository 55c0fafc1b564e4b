"""Files as batches of rows: CSV, JSON lines and Parquet, the text ones also gzip- or zstd-compressed. The name's ending says which.

    CSV         a header and UTF-8; an empty cell is null, and so is NA, N/A, NaN, null or None where no string is declared; a row with
                another number of cells than the header is set apart; what is kept of a row set apart is its cells, written as CSV again
    JSON lines  as in `records`; blank lines are passed over, but count as lines
    Parquet     values are converted where nothing is lost; what is kept of a row set apart is its declared columns as JSON

`_offset` is the number of the row (CSV, Parquet) or line (JSON lines), from 0, the CSV header not counted.
Does not know: tables or commits.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import ColumnType
from bedplate.data.records import JsonReader, system_columns
from bedplate.data.schema import ARROW, INSTANT, Batch, Fault, Parsed, Shape, infer_text, parse_text, quarantined, split, unify

_BLOCK_BYTES = 8 << 20
_ROWS = 100_000
_MISSING = pa.array(["NA", "N/A", "NaN", "nan", "NULL", "null", "None"])


@dataclass(frozen=True)
class FileSource:
    """A file that can be read: `infer` gives its columns, `batches` its rows (arrived at a time, microseconds since the epoch)."""

    path: Path
    infer: Callable[[Path], dict[str, ColumnType]]
    batches: Callable[[Path, Shape, int], Iterator[Batch]]


def open_file(path: Path) -> FileSource:
    """The reader for a file. Raises DataError for a missing file or an unknown ending."""
    if not path.is_file():
        raise DataError("the source file is missing", value=path.name, fix="put it there, or correct `source:`")
    name = path.name.lower()
    stem = name.removesuffix(".gz").removesuffix(".zst")
    for ending, (infer, batches) in _FORMATS.items():
        if stem.endswith(ending) and (stem == name or ending != ".parquet"):
            return FileSource(path, infer, batches)
    raise DataError("no reader for this kind of file", value=path.name, fix="use .csv, .jsonl or .parquet; .gz and .zst for the text ones")


def need_columns(shape: Shape, present: Iterable[str], path: Path) -> None:
    """Raise DataError for a declared column that the file does not have."""
    known = list(present)
    for name in shape.columns:
        if name not in known:
            raise DataError(f"table {shape.table!r} declares a column that {path.name} does not have", value=name, fix=nearest(name, known))


def _byte_stream(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix.lower()))


class _CsvRows:
    """Reads a CSV file block by block and numbers its rows, those that have a wrong number of cells included."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wrong: list[pacsv.InvalidRow] = []
        self._stream = _byte_stream(path)
        self.names = self._header()
        self.done = 0

    def _header(self) -> list[str]:
        with _byte_stream(self._path) as stream:
            lines = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="")
            try:
                names = next(csv.reader(lines), [])
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError("the header of a CSV file cannot be read", value=self._path.name, fix="save it as CSV in UTF-8") from error
        if not names or len(set(names)) < len(names):
            raise DataError("a CSV file needs a header with a name for each column", value=names, fix=f"correct the first line of {self._path.name}")
        return names

    def blocks(self) -> Iterator[tuple[pa.Table, np.ndarray[Any, Any], list[Fault], list[bytes]]]:
        """Cells as binary columns, their row numbers, and the rows set apart with their text."""
        reader = pacsv.open_csv(
            self._stream,
            pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=self._set_apart),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(self.names, pa.binary()), strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
            ),
        )
        for batch in reader:
            yield self._numbered(pa.Table.from_batches([batch]))
        if self._wrong:
            yield self._numbered(pa.table({name: pa.array([], pa.binary()) for name in self.names}))
