"""Files as batches of rows: CSV, JSON lines and Parquet, the text ones also gzip- or zstd-compressed. The name's ending says which.
A pattern (`text/**/*.py`) stands for text files, a row each (`source_text`).

`_offset` is the number of the row (CSV, Parquet) or line (JSON lines), from 0, the header of a CSV file not counted.
Does not know: tables or commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.pattern import is_pattern
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


def open_file(path: Path) -> FileSource:
    """The reader for a file, or for the text files of a pattern. Raises DataError for a missing file or an unknown ending."""
    if not path.is_file() and is_pattern(path):
        return _Reported(path, TextFiles(path))
    if not path.is_file():
        raise DataError("the source file is missing", value=path.name, fix="put it there, or correct `source:`")
    name = path.name.lower()
    packed = name.endswith((".gz", ".zst"))
    ending = Path(Path(name).stem if packed else name).suffix
    if ending not in _FORMATS or (packed and ending == ".parquet"):
        fix = "use .csv, .jsonl, .ndjson (also with .gz or .zst) or .parquet"
        raise DataError("no reader for a file with this ending", value=path.name, fix=fix)
    return _Reported(path, _FORMATS[ending](path))


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
