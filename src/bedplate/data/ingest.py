"""Ingestion: a stream or a file becomes rows of a table, each exactly once, and the version of the table is a cut.

Rows that fit go to the table, rows that do not to NAME_quarantine, each table with its own offsets. The quarantine is written first, so
whatever lies before the offset of the table is in one of the two; a process killed between the two commits leaves rows in the quarantine
that the next one finds there and does not add again. Nothing is committed when nothing changed.

A stream's table is begun anew when the stream was made anew or its declaration changed; a file's when its content or its declaration did,
in one commit. A commit holds, of all partitions, what was read in a second, at most 250,000 records or 64 MiB, so there is no more than one
a second; `ingest_stream` ends at the end that the stream had when it began, so one who follows a stream calls it again, and the pause
between two calls is the least time between two commits.
Does not know: when to run, or who reads the table (`cut`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.digest import digest, digest_file, digest_files
from bedplate.core.errors import DataError
from bedplate.core.protocols import Stream
from bedplate.core.spec import ColumnType, Dataset
from bedplate.data.cut import Cut, read_cut
from bedplate.data.lake import Lake
from bedplate.data.pattern import is_pattern, matching
from bedplate.data.records import JsonReader
from bedplate.data.row_rules import set_apart
from bedplate.data.schema import ARROW, QUARANTINE, SYSTEM, Shape
from bedplate.data.sources import FileSource, open_file
from bedplate.data.streams.reading import Records, read_records
from bedplate.data.target import Target

__all__ = ["Cut", "ingest_file", "ingest_stream", "read_cut"]

COMMIT_RECORDS = 250_000
COMMIT_BYTES = 64 << 20
COMMIT_S = 1.0
_PIECE_RECORDS = 50_000
_SAMPLE_RECORDS = 10_000
_FORMAT = 1  # raised when the same bytes become other rows, so that tables are made anew
_SUFFIX = "_quarantine"
_REASONS = 5

Progress = Callable[[int, int], None]


def ingest_stream(
    name: str,
    dataset: Dataset,
    stream: Stream,
    topic: str,
    lake: Lake,
    progress: Progress,
    up_to: Mapping[int, int] | None = None,
    commit_records: int = COMMIT_RECORDS,
) -> Cut:
    """Bring table `name` to the offsets `up_to`, or to the stream's end, and return the cut. `progress` is told (done, total) records.

    Several processes may do this at once: their rows are not doubled. A table that is already further stays there. Raises DataError when
    the stream ends before `up_to` or before what the table holds, or has deleted what comes next, and Busy when another process replaces
    the table meanwhile.
    """
    target = _TablePair(name, dataset, lake, ("stream", stream.identity), topic)
    begins, ends = stream.begin_offsets(), _ends(stream, target, up_to)
    ignored: Counter[str] = Counter()
    reader = JsonReader()
    try:
        target.begin(lambda: reader.infer(_sample(stream, begins, ends)))
        for read in _ahead(stream, _behind(target, begins, ends), ends, commit_records):
            values = pa.concat_arrays([each.values for each in read])
            batch = reader.batch(target.shape, values, pa.concat_tables([each.system for each in read]).combine_chunks())
            target.add(batch.good, batch.bad, {each.partition: each.end for each in read})
            ignored.update(target.undeclared(batch.fields))
            progress(sum(min(target.offset(number), last) for number, last in ends.items()), sum(ends.values()))
    finally:
        reader.close()
    return target.end(list(ends), ignored)


def ingest_file(name: str, dataset: Dataset, path: Path, lake: Lake, progress: Progress) -> Cut:
    """Make table `name` hold the rows of a file and return the cut. `progress` is told (rows, rows) as they are read.

    Rows arrive when the file came to rest in its place (its inode's change time). Raises DataError for a file that cannot be read, lacks a
    declared column or changes while it is read; nothing is committed then.
    """
    source = open_file(path)
    before = _stamp(path)
    target = _TablePair(name, dataset, lake, _content(path), "file")
    ignored: Counter[str] = Counter()
    with lake.held(name):
        target.open(source.infer)
        if not target.complete:
            spool = lake.scratch / f".{name}.spool"  # a killed process leaves it, and the next one writes over it, under the lock
            bad, rows, met = _spool(source, target.shape, before[-1] // 1000, spool, progress)
            if _stamp(path) != before:
                raise DataError("the source file changed while it was read", value=path.name, fix="run it again when it is whole")
            target.replace(lambda: pa.ipc.open_stream(pa.memory_map(str(spool))), bad, rows)
            spool.unlink()
            ignored.update(target.undeclared(met))
    return target.end([0], ignored)


def source_of(dataset: Dataset, identity: tuple[str, str]) -> str:
    """What names a source under a declaration: `identity` is its kind and what names its content, for a stream ("stream", its identity)."""
    return digest([_FORMAT, *identity, list(dataset.columns.items()), list(dataset.key), *_ruled(dataset)])


def _ruled(dataset: Dataset) -> list[object]:
    """What the rules that set rows apart add to the name of a source or a content: nothing where there are none."""
    rules = set_apart(dataset.expect)
    return [[rule.model_dump(mode="json") for rule in rules]] if rules else []


class _TablePair:
    """A dataset's table and its quarantine, as targets of one source. `identity` says which: its kind, and what names its content."""

    shape: Shape

    def __init__(self, name: str, dataset: Dataset, lake: Lake, identity: tuple[str, str], topic: str) -> None:
        if name.endswith(_SUFFIX):
            raise DataError("a dataset's name ends like that of a quarantine", value=name, fix=f"do not end it in {_SUFFIX!r}")
        self._name = name
        self._dataset = dataset
        self._lake = lake
        self._identity = identity
        self._topic = topic
        self._source = source_of(dataset, identity)
        self._rows = self._target(name)
        self._bad = self._target(name + _SUFFIX)

    @property
    def complete(self) -> bool:
        """Whether both tables hold this source already. The quarantine is not there when no row ever went to it."""
        return self._rows is not None and self._rows.current and (self._bad is None or self._bad.current)

    def undeclared(self, fields: Mapping[str, int]) -> dict[str, int]:
        """The fields that are no columns."""
        return {name: count for name, count in fields.items() if name not in self.shape.columns}

    def offset(self, partition: int) -> int:
        """The offset of the next record to read."""
        return self._rows.offset(partition) if self._rows is not None else 0

    def open(self, infer: Callable[[], Mapping[str, ColumnType]]) -> None:
        """Settle the columns: the declared ones, else those of the table if it holds this source, else inferred ones."""
        columns: Mapping[str, ColumnType] = self._dataset.columns
        if not columns and self._rows is not None and self._rows.current:
            kinds = {arrow: kind for kind, arrow in ARROW.items()}
            columns = {field.name: kinds[field.type] for field in self._rows.table.schema if field.name not in SYSTEM.names}
        self.shape = Shape(self._name, columns or infer(), self._dataset.key, set_apart(self._dataset.expect))

    def begin(self, infer: Callable[[], Mapping[str, ColumnType]]) -> None:
        """Make both tables hold this source, with no rows yet where they held another."""
        with self._lake.held(self._name):
            self.open(infer)
            self._rows = self._made(self._name, self.shape.arrow)
            self._rows.replace(self.shape.arrow.empty_table, {0: 0})
            if self._bad is not None:
                self._bad.replace(QUARANTINE.empty_table, {0: 0})

    def add(self, good: pa.Table, bad: pa.Table, ends: Mapping[int, int]) -> None:
        """Add the rows that lie before the offsets `ends` of their partitions and are not there yet."""
        assert self._rows is not None
        if bad.num_rows:
            if self._bad is None:
                self._bad = self._made(self._name + _SUFFIX, QUARANTINE)
                self._bad.replace(QUARANTINE.empty_table, {0: 0})
            self._bad.append(lambda starts: bad.filter(_from(starts)), ends)
        self._rows.append(lambda starts: good.filter(_from(starts)), ends)

    def replace(self, good: Callable[[], pa.RecordBatchReader], bad: pa.Table, end: int) -> None:
        """Put these rows in the place of all that the tables hold. The caller holds the table's lock."""
        if bad.num_rows or self._bad is not None:
            self._bad = self._made(self._name + _SUFFIX, QUARANTINE)
            self._bad.replace(lambda: bad, {0: end})
        self._rows = self._made(self._name, self.shape.arrow)
        self._rows.replace(good, {0: end})

    def end(self, partitions: Sequence[int], ignored: Mapping[str, int]) -> Cut:
        """Merge small files where there are many, and say what the tables hold."""
        assert self._rows is not None
        self._rows.table.compact()
        if self._bad is not None:
            self._bad.table.compact()
        offsets = {partition: self._rows.offset(partition) for partition in partitions}
        reasons = self._reasons(offsets)
        content = [*self._identity, sorted(offsets.items()), list(self.shape.columns.items()), list(self.shape.key), *_ruled(self._dataset)]
        return Cut(
            table=self._name,
            table_version=self._rows.table.version,
            rows=self._rows.table.rows,
            quarantined=reasons.total(),
            offsets=offsets,
            digest=digest([_FORMAT, *content]),
            reasons=dict(reasons.most_common(_REASONS)),
            ignored=dict(ignored),
        )

    def _reasons(self, offsets: Mapping[int, int]) -> Counter[str]:
        """How many rows before `offsets` are in quarantine, by problem."""
        if self._bad is None:
            return Counter()
        table = self._lake.read(self._name + _SUFFIX, columns=["_partition", "_offset", "problem"])
        found: Counter[str] = Counter()
        for partition, end in offsets.items():
            theirs = pc.and_(pc.equal(table["_partition"], pa.scalar(partition)), pc.less(table["_offset"], pa.scalar(end)))
            found.update(str(problem) for problem in table["problem"].filter(theirs).to_pylist())
        return found

    def _target(self, name: str) -> Target | None:
        table = self._lake.table(name)
        return None if table is None else Target(table, self._source, self._topic)

    def _made(self, name: str, schema: pa.Schema) -> Target:
        return Target(self._lake.create(name, schema), self._source, self._topic)


def _ends(stream: Stream, target: _TablePair, up_to: Mapping[int, int] | None) -> dict[int, int]:
    ends = stream.end_offsets()
    for partition, wanted in (up_to or {}).items():
        if wanted > ends.get(partition, 0):
            what = f"the stream ends at {ends.get(partition, 0)} in partition {partition}, before the cut that is wanted"
            raise DataError(what, value=wanted, fix="restore the stream, or run its writer again")
    for partition, end in ends.items():
        if target.offset(partition) > end:
            what = f"the stream ends at {end} in partition {partition}, before what its table holds"
            raise DataError(what, value=target.offset(partition), fix="restore the stream, or make it anew and ingest all of it")
    return {partition: (up_to or ends).get(partition, 0) for partition in ends}


def _behind(target: _TablePair, begins: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
    """For each partition that is not read to its end, where to go on. Raises DataError where that was deleted."""
    behind = {}
    for partition, end in sorted(ends.items()):
        at, begin = target.offset(partition), begins[partition]
        if 0 < at < min(begin, end):
            what = f"the stream has deleted {begin - at} records of partition {partition} before they were read"
            raise DataError(what, value=at, fix="keep records longer (`retention.ms`); a dataset of another name begins with what is left")
        if at < end:
            behind[partition] = max(at, begin)
    return behind


def _ahead(stream: Stream, behind: Mapping[int, int], ends: Mapping[int, int], limit: int) -> Iterator[list[Records]]:
    """What a commit holds, again and again up to `ends`; the next is read while the caller is at the one before.

    Reading ahead makes 1.35 times as many records a second of Kafka on two cores (`bench/kafka_delta.py`).
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_gathered, stream, behind, ends, limit) if behind else None
        while waiting is not None:
            read = waiting.result()
            done = {each.partition: each.end for each in read}
            behind = {partition: done.get(partition, at) for partition, at in behind.items() if done.get(partition, at) < ends[partition]}
            waiting = pool.submit(_gathered, stream, behind, ends, limit) if behind else None
            yield read


def _gathered(stream: Stream, behind: Mapping[int, int], ends: Mapping[int, int], limit: int) -> list[Records]:
    """The next records of all partitions, in pieces, as many as a commit holds."""
    begun_s, nbytes, count = time.monotonic(), 0, 0
    read: list[Records] = []
    for partition, start in behind.items():
        at = min(start, ends[partition])
        while at < ends[partition] or not read:
            full = count >= limit or nbytes >= COMMIT_BYTES or time.monotonic() - begun_s > COMMIT_S
            if full and read:
                return read
            piece = read_records(stream, partition, at, ends[partition], min(_PIECE_RECORDS, limit - count), COMMIT_BYTES - nbytes)
            if piece.end <= at < ends[partition]:
                raise DataError(
                    f"partition {partition} of the stream ends before its own end", value=at, fix="ingest again when it is whole"
                )
            read.append(piece)
            at, count, nbytes = piece.end, count + len(piece.values), nbytes + piece.values.nbytes
    return read


def _from(starts: Mapping[int, int]) -> pc.Expression:
    """Rows from these offsets of their partitions on."""
    later = pc.scalar(False)
    for partition, start in starts.items():
        later |= (pc.field("_partition") == partition) & (pc.field("_offset") >= start)
    return later


def _sample(stream: Stream, begins: Mapping[int, int], ends: Mapping[int, int]) -> pa.Array[Any]:
    """The first records of the first partition that has any, to infer columns from."""
    partition = next((number for number, end in sorted(ends.items()) if end > begins[number]), None)
    if partition is None:
        return pa.array([], pa.binary())
    return read_records(stream, partition, begins[partition], ends[partition], _SAMPLE_RECORDS, COMMIT_BYTES).values


def _content(path: Path) -> tuple[str, str]:
    """What names the content of a file, or of the files of a pattern: a kind and a digest."""
    if path.is_file() or not is_pattern(path):
        return "file", digest_file(path)
    return "files", digest_files(*matching(path))


def _stamp(path: Path) -> tuple[object, int]:
    """What changes when a file, or one of a pattern's, does; at the end when the last of them did (nanoseconds)."""
    base, names = (path.parent, [path.name]) if path.is_file() or not is_pattern(path) else matching(path)
    status = [(base / name).stat() for name in names]
    stamps = [(name, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for name, each in zip(names, status, strict=True)]
    return stamps, max((each.st_ctime_ns for each in status), default=0)


def _spool(source: FileSource, shape: Shape, arrived_at_us: int, spool: Path, progress: Progress) -> tuple[pa.Table, int, Counter[str]]:
    """Read all of a file before anything is committed: rows that fit to `spool`, the others in memory; and how many rows there are.

    The lake's writer reads the spool on a thread of its own, so it must be a file of Arrow's: a Python object behind it can abort the
    interpreter's exit.
    """
    bad = [QUARANTINE.empty_table()]
    rows = 0
    met: Counter[str] = Counter()
    with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_stream(file, shape.arrow) as writer:
        for batch in source.batches(shape, arrived_at_us):
            writer.write_table(batch.good)
            bad.append(batch.bad)
            met.update(batch.fields)
            rows += batch.good.num_rows + batch.bad.num_rows
            progress(rows, rows)
    return pa.concat_tables(bad), rows, met
