"""Files as batches of rows: CSV, JSON lines and Parquet, the text ones also gzip- or zstd-compressed. The name's ending says which.
A pattern with such an ending (`days/*.csv.gz`) stands for files of one table, in the order of their paths; any other (`text/**/*.py`) for
text files, a row each (`source_text`).

`_offset` is the number of the row (CSV, Parquet) or line (JSON lines), from 0, the header of a CSV file not counted; of several files
each goes on where the one before ended, and its rows arrived when that file came to rest.
Does not know: tables or commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.pattern import is_pattern, matching
from bedplate.data.records import JsonReader, system_columns
from bedplate.data.schema import Batch, Shape, need_columns
from bedplate.data.source_csv import CsvFile, byte_stream
from bedplate.data.source_parquet import ParquetFile
from bedplate.data.source_text import TextFiles

_BLOCK_BYTES = 8 << 20


class FileSource(Protocol):
    """A file with rows."""

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types, from the first rows."""

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        """All rows, in order. Raises DataError when the file has no such column."""


class JsonLinesFile:
    """JSON lines as `records` reads them. Blank lines are passed over, but count as lines."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types, from the first block of lines."""
        reader = JsonReader()
        try:
            for lines, _ in self._blocks():
                return reader.infer(lines)
            return {}
        finally:
            reader.close()

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        """All lines. Raises DataError at the end when a declared column was in none of them."""
        reader = JsonReader()
        met: dict[str, int] = {}
        try:
            for lines, numbers in self._blocks():
                batch = reader.batch(shape, lines, system_columns(arrived_at_us, 0, numbers))
                met.update(batch.fields)
                yield batch
        finally:
            reader.close()
        if met:
            need_columns(shape, met, self._path.name)

    def _blocks(self) -> Iterator[tuple[pa.BinaryArray, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
        """Lines that are not blank, and their numbers."""
        done, rest = 0, b""
        with byte_stream(self._path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                yield _numbered(lines, done)
                done += len(lines)
        if rest:
            yield _numbered([rest], done)


def _numbered(lines: list[bytes], first: int) -> tuple[pa.BinaryArray, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    kept = [number for number, line in enumerate(lines) if line.strip()]
    return pa.array([lines[number] for number in kept], pa.binary()), np.array(kept, dtype=np.int64) + first


_FORMATS: Mapping[str, type[CsvFile] | type[JsonLinesFile] | type[ParquetFile]] = {
    ".csv": CsvFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
    ".parquet": ParquetFile,
}


class DataFiles:
    """The files of a table that a pattern matches now; all of one format."""

    def __init__(self, pattern: Path) -> None:
        """Nothing is read yet. Raises DataError when no file matches."""
        base, names = matching(pattern)
        if not names:
            raise DataError("no file matches the source", value=pattern.name, fix="put files there, or correct `source:`")
        self._paths = [base / name for name in names]

    def infer(self) -> dict[str, ColumnType]:
        """Columns and types, from the first rows of the first file."""
        return open_file(self._paths[0]).infer()

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:  # noqa: ARG002 - each file came to rest at a time of its own
        """All rows of all files. Raises DataError that names the file which lacks a declared column or cannot be read."""
        first = 0
        for path in self._paths:
            ended = first
            for batch in open_file(path).batches(shape, path.stat().st_ctime_ns // 1000):
                good, bad = (_numbered_from(first, rows) for rows in (batch.good, batch.bad))
                ended = max([ended, *(pc.max(rows["_offset"]).as_py() + 1 for rows in (good, bad) if rows.num_rows)])
                yield Batch(good, bad, batch.fields)
            first = ended


def _numbered_from(first: int, rows: pa.Table) -> pa.Table:
    place = rows.schema.get_field_index("_offset")
    return rows.set_column(place, rows.schema.field(place), pc.add(rows["_offset"], pa.scalar(first, pa.int64())))


def open_file(path: Path) -> FileSource:
    """The reader for a file, or for the files of a pattern. Raises DataError for a missing file or an unknown ending."""
    format_ = _format_of(path)
    if not path.is_file() and is_pattern(path):
        return DataFiles(path) if format_ is not None else _Reported(path, TextFiles(path))
    if not path.is_file():
        raise DataError("the source file is missing", value=path.name, fix="put it there, or correct `source:`")
    if format_ is None:
        fix = "use .csv, .jsonl, .ndjson (also with .gz or .zst) or .parquet"
        raise DataError("no reader for a file with this ending", value=path.name, fix=fix)
    return _Reported(path, format_(path))


def _format_of(path: Path) -> type[CsvFile] | type[JsonLinesFile] | type[ParquetFile] | None:
    """What the ending of a name says; None for no format that is known."""
    name = path.name.lower()
    packed = name.endswith((".gz", ".zst"))
    ending = Path(Path(name).stem if packed else name).suffix
    return None if packed and ending == ".parquet" else _FORMATS.get(ending)


class _Reported:
    """A file whose unreadable bytes are reported as a DataError that names it."""

    def __init__(self, path: Path, source: FileSource) -> None:
        self._path = path
        self._source = source

    def infer(self) -> dict[str, ColumnType]:
        with _reading(self._path):
            return self._source.infer()

    def batches(self, shape: Shape, arrived_at_us: int) -> Iterator[Batch]:
        with _reading(self._path):
            yield from self._source.batches(shape, arrived_at_us)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowInvalid) as error:
        what = f"the source file cannot be read: {str(error).splitlines()[0][:200]}"
        raise DataError(what, value=path.name, fix="look whether it is whole and what its ending says it is") from error
