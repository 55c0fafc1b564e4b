"""The series store: metric points in columns, beside the events of the ledger.

A flush is one Parquet chunk, `TOKEN-WRITER-FIRST-LAST.parquet` in the run's folder, written atomically; FIRST and LAST are journal
numbers. An append knows from the names (and from the metadata of the compacted file) how far each writer's journal is stored, so a
replay adds nothing, wherever it cuts the journal. `compact` folds the chunks into one file: the file replaces its predecessor first
and names the chunks that it covers, so a kill between that and their removal changes nothing.

Attempts overlap: one that restarts from a checkpoint logs some steps again. Reading gives, for each step, the points of the newest
attempt (the highest token) that reached it; several points of that attempt at one step all stay, ordered by time.
Points of many small runs share files, `_shared/NUMBER.parquet`, ordered by run and metric; a run's points may be in both places.
Does not know: journals, the ledger, or which metric matters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
SHARED = "_shared"
ROW_GROUP = 1 << 16
_SHARED_COLUMNS: list[tuple[str, pyarrow.DataType]] = [
    ("run", pyarrow.string()),
    ("name", pyarrow.string()),
    ("at_s", pyarrow.float64()),
    ("step", pyarrow.int64()),
    ("value", pyarrow.float64()),
]
_SHARED_SCHEMA = pyarrow.schema(_SHARED_COLUMNS)

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
        folder, stored = self._stored(run, token, writer)
        new = [entry for entry in entries if entry[0] > stored]
        if not new:
            return 0
        write_bytes(folder / _chunk_name(token, writer, new[0][0], new[-1][0]), _encoded(_table(token, writer, new)))
        if len(_chunks(folder)) > COMPACT_EVERY:
            self.compact(run)
        return len(new)

    def _stored(self, run: str, token: int, writer: str) -> tuple[Path, int]:
        """The folder of a run, and how far the journal of one writer of one attempt is stored."""
        folder = self._folder(run)
        if not _RUN.fullmatch(writer):
            raise DataError("a writer's name cannot be a file name", value=writer, fix="use letters, digits, '_', '-' and '.'")
        stored = max((each.last for each in _chunks(folder) if (each.token, each.writer) == (token, writer)), default=0)
        return folder, max(stored, _covered(folder).get(f"{token}/{writer}", 0))

    def append_columns(
        self, run: str, token: int, writer: str, first: int, name: str | Sequence[str], at_s: Any, step: Any, value: Any
    ) -> int:
        """Store points given as columns: one metric's `name` or a name a point, `at_s` seconds since the epoch, `step`, `value`.

        The arrays have shape [points]; `first` numbers the first point. Points that were stored before, by number, are left out.
        Returns how many were new. Raises DataError for columns of different lengths, and for what `append` raises it for.
        """
        columns = {"at_s": numpy.asarray(at_s, float), "step": numpy.asarray(step, numpy.int64), "value": numpy.asarray(value, float)}
        count = len(columns["value"])
        lengths = {len(column) for column in columns.values()} | (set() if isinstance(name, str) else {len(name)})
        if lengths != {count}:
            raise DataError("columns of points have different lengths", value=sorted(lengths), fix="give one entry a point")
        folder, stored = self._stored(run, token, writer)
        skip = min(max(stored - first + 1, 0), count)
        if skip == count:
            return 0
        new = count - skip
        parts: list[Any] = [
            pyarrow.repeat(pyarrow.scalar(token, pyarrow.int64()), new),
            pyarrow.repeat(writer, new),
            numpy.arange(first + skip, first + count, dtype=numpy.int64),
            columns["at_s"][skip:],
            columns["step"][skip:],
            pyarrow.repeat(name, new) if isinstance(name, str) else pyarrow.array(list(name)[skip:], pyarrow.string()),
            columns["value"][skip:],
        ]
        table = pyarrow.table(parts, schema=_SCHEMA)
        write_bytes(folder / _chunk_name(token, writer, first + skip, first + count - 1), _encoded(table))
        return new

    def append_shared(self, number: int, points: Mapping[str, Mapping[str, Any]]) -> None:
        """Store points of many runs as one file of that number: run -> metric -> (milliseconds since the epoch, step, value) columns.

        Once more for the same number replaces that file. Runs are checked as `append` checks them.
        """
        columns = [(run, name, points[run][name]) for run in sorted(points) for name in sorted(points[run])]
        for run in points:
            self._folder(run)
        place = numpy.repeat(numpy.arange(len(columns)), [len(column[0]) for _, _, column in columns])
        at_ms, step, value = (numpy.concatenate([numpy.asarray(column[part]) for _, _, column in columns]) for part in range(3))
        parts: list[Any] = [
            pyarrow.array([run for run, _, _ in columns], pyarrow.string()).take(place),
            pyarrow.array([name for _, name, _ in columns], pyarrow.string()).take(place),
            at_ms / 1000.0,
            step,
            value,
        ]
        table = pyarrow.table(parts, schema=_SHARED_SCHEMA)
        write_bytes(self._root / SHARED / f"{number:012d}.parquet", _encoded(table))

    def read(self, run: str, name: str) -> Series:
        """The points of one metric, ordered by step, then time; arrays of length 0 when there are none. NaN and infinities are kept."""
        table = _load(self._folder(run))
        own = _newest(table.filter(pyarrow.compute.field("name") == name))
        shared = self._shared(run, name)
        if shared.num_rows == 0:
            return own
        step, at_s, value = (numpy.concatenate([getattr(own, each), shared.column(each).to_numpy()]) for each in ("step", "at_s", "value"))
        order = numpy.lexsort((at_s, step))
        return Series(step[order], at_s[order], value[order])

    def names(self, run: str) -> tuple[str, ...]:
        """The metrics of a run, sorted."""
        return tuple(sorted({*_names(_load(self._folder(run))), *_names(self._shared(run))}))

    def _shared(self, run: str, name: str | None = None) -> pyarrow.Table:
        """What the shared files have of a run. Their row groups are ordered, so few are read."""
        wanted = pyarrow.compute.field("run") == run
        if name is not None:
            wanted = wanted & (pyarrow.compute.field("name") == name)
        tables = [
            pyarrow.parquet.read_table(path, filters=wanted, partitioning=None) for path in sorted((self._root / SHARED).glob("*.parquet"))
        ]
        return pyarrow.concat_tables(tables) if tables else _SHARED_SCHEMA.empty_table()

    def shared_latest(self) -> Iterator[tuple[str, str, float, int, int]]:
        """(run, metric, value, milliseconds since the epoch, step) of every point in the shared files, to find the latest of each."""
        for path in sorted((self._root / SHARED).glob("*.parquet")):
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
                for run, name, at_s, step, value in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield run, name, value, round(at_s * 1000), step

    def last(self, run: str) -> dict[str, float]:
        """The value of each metric at its last step, of those that attempts logged."""
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


def _chunk_name(token: int, writer: str, first: int, last: int) -> str:
    return f"{token:06d}-{writer}-{first:012d}-{last:012d}.parquet"


def _table(token: int, writer: str, entries: Sequence[Point]) -> pyarrow.Table:
    rows = [(number, at_s, step, name, float(value)) for number, at_s, step, values in entries for name, value in values.items()]
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    return pyarrow.table([[token] * len(rows), [writer] * len(rows), *columns], schema=_SCHEMA)


def _encoded(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP)
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
