"""The series store: metric points in columns, beside the events of the ledger.

A flush is one Parquet chunk, `TOKEN-WRITER-FIRST-LAST.parquet` in the run's folder, written atomically; FIRST and LAST are journal
numbers. An append knows from the names (and from the metadata of the compacted file) how far each writer's journal is stored, so a
replay adds nothing, wherever it cuts the journal. `compact` folds the chunks into one file: the file replaces its predecessor first
and names the chunks that it covers, so a kill between that and their removal changes nothing.

Attempts overlap: one that restarts from a checkpoint logs some steps again. Reading gives, for each step, the points of the newest
attempt (the highest token) that reached it; several points of that attempt at one step all stay, ordered by time.
Does not know: journals, the ledger, or which metric matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from bedplate.core.atomic import write_bytes
from bedplate.core.errors import DataError

COMPACTED = "compacted.parquet"
COMPACT_EVERY = 128
_COVERED = b"bedplate.covered"
_CHUNK = re.compile(r"(?P<token>\d{6,})-(?P<writer>[\w.-]+)-(?P<first>\d{12,})-(?P<last>\d{12,})\.parquet")
_RUN = re.compile(r"[A-Za-z0-9][\w.-]{0,255}")
_COLUMNS: list[tuple[str, pyarrow.DataType]] = [
    ("token", pyarrow.int64()),
    ("writer", pyarrow.string()),
    ("number", pyarrow.int64()),
    ("at_s", pyarrow.float64()),
    ("step", pyarrow.int64()),
    ("name", pyarrow.string()),
    ("value", pyarrow.float64()),
]
_SCHEMA = pyarrow.schema(_COLUMNS)

Point = tuple[int, float, int, Mapping[str, float]]


class Series(NamedTuple):
    """The points of one metric. Each array has shape [points]: `step` int64, `at_s` float64 seconds since the epoch, `value` float64."""

    step: numpy.ndarray
    at_s: numpy.ndarray
    value: numpy.ndarray


@dataclass(frozen=True)
class _Chunk:
    path: Path
    token: int
    writer: str
    last: int


class SeriesStore:
    """The metric points of all runs below `root`, a folder per run. One appender a run at a time; any number of readers."""

    def __init__(self, root: Path) -> None:
        """Nothing is touched until the first append."""
        self._root = root

    def append(self, run: str, token: int, writer: str, entries: Sequence[Point]) -> int:
        """Store metric entries (journal number, seconds since the epoch, step, {name: value}) of one writer of one attempt.

        Entries come in the order of their numbers; those stored before are left out. Returns how many entries were new.
        Raises DataError for a run or writer that cannot be a file name.
        """
        folder = self._folder(run)
        if not _RUN.fullmatch(writer):
            raise DataError("a writer's name cannot be a file name", value=writer, fix="use letters, digits, '_', '-' and '.'")
        chunks = _chunks(folder)
        stored = max((each.last for each in chunks if (each.token, each.writer) == (token, writer)), default=0)
        stored = max(stored, _covered(folder).get(f"{token}/{writer}", 0))
        new = [entry for entry in entries if entry[0] > stored]
        if not new:
            return 0
        name = f"{token:06d}-{writer}-{new[0][0]:012d}-{new[-1][0]:012d}.parquet"
        write_bytes(folder / name, _encoded(_table(token, writer, new)))
        if len(chunks) >= COMPACT_EVERY:
            self.compact(run)
        return len(new)

    def read(self, run: str, name: str) -> Series:
        """The points of one metric, ordered by step, then time; arrays of length 0 when there are none. NaN and infinities are kept."""
        table = _load(self._folder(run))
        return _newest(table.filter(pyarrow.compute.field("name") == name))

    def names(self, run: str) -> tuple[str, ...]:
        """The metrics of a run, sorted."""
        return _names(_load(self._folder(run)))

    def last(self, run: str) -> dict[str, float]:
        """The value of each metric at its last step."""
        table = _load(self._folder(run))
        return {name: float(_newest(table.filter(pyarrow.compute.field("name") == name)).value[-1]) for name in _names(table)}

    def compact(self, run: str) -> None:
        """Fold the chunks of a run into one file. Harmless at any time, and twice; a kill at any instant loses and doubles nothing."""
        folder = self._folder(run)
        chunks = _chunks(folder)
        if not chunks:
            return
        covered = _covered(folder)
        for chunk in chunks:
            key = f"{chunk.token}/{chunk.writer}"
            covered[key] = max(covered.get(key, 0), chunk.last)
        table = _load_once(folder, chunks).sort_by([("token", "ascending"), ("writer", "ascending"), ("number", "ascending")])
        table = table.replace_schema_metadata({_COVERED: json.dumps(covered, sort_keys=True).encode()})
        write_bytes(folder / COMPACTED, _encoded(table))
        for chunk in chunks:
            chunk.path.unlink(missing_ok=True)

    def _folder(self, run: str) -> Path:
        if not _RUN.fullmatch(run):
            raise DataError("a run's name cannot be a folder name", value=run, fix="use letters, digits, '_', '-' and '.'")
        return self._root / run


def _table(token: int, writer: str, entries: Sequence[Point]) -> pyarrow.Table:
    rows = [(number, at_s, step, name, float(value)) for number, at_s, step, values in entries for name, value in values.items()]
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    return pyarrow.table([[token] * len(rows), [writer] * len(rows), *columns], schema=_SCHEMA)


def _encoded(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _chunks(folder: Path) -> list[_Chunk]:
    found = [(path, _CHUNK.fullmatch(path.name)) for path in folder.glob("*.parquet")] if folder.is_dir() else []
    chunks = [_Chunk(path, int(match["token"]), match["writer"], int(match["last"])) for path, match in found if match]
    return sorted(chunks, key=lambda chunk: chunk.path.name)


def _covered(folder: Path) -> dict[str, int]:
    """How far each writer's journal is in the compacted file, by "token/writer"."""
    try:
        metadata = pyarrow.parquet.read_schema(folder / COMPACTED).metadata
    except FileNotFoundError:
        return {}
    return dict(json.loads(metadata[_COVERED]))


def _load(folder: Path) -> pyarrow.Table:
    """All points of a run. Chunks are listed before the compacted file is read: one that vanished meanwhile is in the next listing's."""
    while True:
        try:
            return _load_once(folder, _chunks(folder))
        except FileNotFoundError:
            continue  # a compaction removed a chunk that was just listed; it covers that chunk


def _load_once(folder: Path, chunks: Sequence[_Chunk]) -> pyarrow.Table:
    tables, covered = [], {}
    if (folder / COMPACTED).exists():
        compacted = pyarrow.parquet.read_table(folder / COMPACTED)
        covered = json.loads(compacted.schema.metadata[_COVERED])
        tables.append(compacted.replace_schema_metadata(None))
    for chunk in chunks:
        if chunk.last > covered.get(f"{chunk.token}/{chunk.writer}", 0):
            tables.append(pyarrow.parquet.read_table(chunk.path, partitioning=None))
    return pyarrow.concat_tables(tables) if tables else _SCHEMA.empty_table()


def _names(table: pyarrow.Table) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in table.column("name").unique().to_pylist()))


def _newest(table: pyarrow.Table) -> Series:
    """One metric's points: of each step those of the highest token, ordered by step, time and number."""
    step, at_s, value, token, number = (table.column(name).to_numpy() for name in ("step", "at_s", "value", "token", "number"))
    steps, place = numpy.unique(step, return_inverse=True)
    highest = numpy.zeros(len(steps), dtype=numpy.int64)
    numpy.maximum.at(highest, place, token)
    keep = token == highest[place]
    order = numpy.lexsort((number[keep], at_s[keep], step[keep]))
    return Series(step[keep][order], at_s[keep][order], value[keep][order])
