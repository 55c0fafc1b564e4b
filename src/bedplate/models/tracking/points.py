"""Points that clients log: a journal that takes them at once, and the series store that they are folded into.

A line of the journal is one request's points, `["RUN",[[key,value,milliseconds,step],…]]`; `write` puts all lines that came since the last
call into the file with one system call, and a point is acknowledged after that: it survives the death of this process at any instant. A
thread makes the file durable (fdatasync) all the while, so that a machine which loses power loses the last tenth of a second at most.
A segment of the journal that is full is folded into one file of the series store, in the background; a segment is covered once the store
has a file of its number or a higher one, so a kill between fold and removal changes nothing. One process writes (`flock`), any may read.
Does not know: runs or their states, HTTP, or which value is the latest.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bedplate.core.errors import Busy
from bedplate.core.loading import Entry, load
from bedplate.models.tracking.validation import Point

SEGMENT_BYTES = 16 << 20
SYNC_S = 0.05
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_STORE = {"store": Entry("bedplate.models.series:SeriesStore", "columns of points; pyarrow takes 150 ms to import")}


class Column(NamedTuple):
    """The points of one metric of one run, in the order in which they came."""

    at_ms: array[int]
    step: array[int]
    value: array[float]


Pending = dict[str, dict[str, Column]]


class PointJournal:
    """The open journal of one server. `add`, `write` and `history` are for one thread; `fold` may run in another."""

    def __init__(self, folder: Path, series: Path) -> None:
        """Open the journal in `folder` for writing, with what a killed server left. Raises Busy when a live process has it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Busy("another process takes points for this project", value=str(folder), fix="stop it: `bedplate down`") from error
        self._series_folder = series
        self._pending: Pending = {}
        self._folding: Pending = {}
        self._covered: list[Path] = []
        self._lines: list[str] = []
        self._dirty = threading.Event()
        self._closed = False
        self._torn = False
        self._swap = threading.Lock()
        _remove_covered(folder, series)
        self.recovered = list(read_segments(folder))
        for run, points in self.recovered:
            self._keep(run, points)
        self._segments = _segments(folder)
        self._open_segment()
        self._syncer = threading.Thread(target=self._sync_often, name="points to disk", daemon=True)
        self._syncer.start()

    def _open_segment(self) -> None:
        number = max((_number(path) for path in [*self._segments, *stored_segments(self._series_folder)]), default=0) + 1
        path = self._folder / f"{number:012d}.jsonl"
        self._segments.append(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = 0

    def close(self) -> None:
        """Fold what is there and release the files."""
        self.write()
        self._closed = True
        self._dirty.set()
        self._syncer.join()
        self.rotate()
        self.fold()
        os.close(self._file)
        self._segments[-1].unlink(missing_ok=True)  # empty: all before it is folded
        os.close(self._lock)

    def add(self, run: str, points: Sequence[Point]) -> None:
        """Take points of one request. They are in the journal after the next `write`."""
        self._lines.append(_ENCODER.encode((run, points)))
        self._keep(run, points)

    def _keep(self, run: str, points: Sequence[Point]) -> None:
        columns = self._pending.get(run)
        if columns is None:
            columns = self._pending[run] = {}
        for key, value, at_ms, step in points:
            column = columns.get(key)
            if column is None:
                column = columns[key] = Column(array("q"), array("q"), array("d"))
            column.at_ms.append(at_ms)
            column.step.append(step)
            column.value.append(value)

    def write(self) -> None:
        """Put what was added into the file. Raises OSError; what was added then is not in the journal, nor acknowledged."""
        if not self._lines:
            return
        data = (("\n" if self._torn else "") + "\n".join(self._lines) + "\n").encode()
        self._lines.clear()
        self._size += len(data)
        self._torn = True  # until all of it is there: a full disk may take a part
        while data:
            data = data[os.write(self._file, data) :]
        self._torn = False
        if not self._dirty.is_set():
            self._dirty.set()

    def _sync_often(self) -> None:
        while not self._closed:
            self._dirty.wait()
            self._dirty.clear()
            with self._swap:
                os.fdatasync(self._file)
            threading.Event().wait(SYNC_S)

    @property
    def full(self) -> bool:
        """Whether it is time to `rotate` and `fold`."""
        return self._size >= SEGMENT_BYTES and not self._folding

    def rotate(self) -> None:
        """Begin a new segment; the points of those before it are what the next `fold` stores."""
        if not self._pending:
            return
        with self._swap:
            os.fsync(self._file)
            os.close(self._file)
            self._folding, self._pending = self._pending, {}
            self._covered = list(self._segments)
            self._open_segment()

    @property
    def folding(self) -> bool:
        """Whether there is something for `fold`."""
        return bool(self._folding)

    def fold(self) -> None:
        """Store what was rotated out in the series store, then remove its segments. For a background thread."""
        if not self._folding:
            return
        load(_STORE, "store", "store")(self._series_folder).append_shared(_number(self._covered[-1]), self._folding)
        for path in self._covered:
            path.unlink(missing_ok=True)
        self._segments = [path for path in self._segments if path not in self._covered]
        self._covered, self._folding = [], {}

    def history(self, run: str, key: str) -> list[tuple[int, int, float]]:
        """All points of one metric as (milliseconds since the epoch, step, value), ordered so; equal ones are one."""
        held = [pending.get(run, {}).get(key) for pending in (self._folding, self._pending)]
        columns = [column for column in held if column is not None]
        return merged(self._series_folder, run, key, columns)

    def stored_latest(self) -> Iterator[tuple[str, str, float, int, int]]:
        """What the series store has of clients' points, as `latest_of` gives those of the journal."""
        if stored_segments(self._series_folder):
            yield from load(_STORE, "store", "store")(self._series_folder).shared_latest()

    def names(self, run: str) -> set[str]:
        """The metrics of a run that are not in the series store yet."""
        return {*self._folding.get(run, {}), *self._pending.get(run, {})}


def merged(series: Path, run: str, key: str, columns: Sequence[Column]) -> list[tuple[int, int, float]]:
    """The points of one metric from the store below `series` and from columns that are not in it yet."""
    found: dict[tuple[int, int, float | str], float] = {}
    if series.is_dir():
        stored = load(_STORE, "store", "store")(series).read(run, key)
        for step, at_s, value in zip(stored.step.tolist(), stored.at_s.tolist(), stored.value.tolist(), strict=True):
            found[(round(at_s * 1000), step, "NaN" if value != value else value)] = value
    for column in columns:
        for at_ms, step, value in zip(*column, strict=True):
            found[(at_ms, step, "NaN" if value != value else value)] = value
    points = [(at_ms, step, value) for (at_ms, step, _), value in found.items()]
    return sorted(points, key=lambda point: (point[0], point[1], point[2] if point[2] == point[2] else float("-inf")))


def unfolded(folder: Path) -> Pending:
    """What the segments in `folder` hold, read by a process that does not own the journal; the store may have some of it already."""
    pending: Pending = {}
    for run, points in read_segments(folder):
        columns = pending.setdefault(run, {})
        for key, value, at_ms, step in points:
            column = columns.setdefault(key, Column(array("q"), array("q"), array("d")))
            column.at_ms.append(at_ms)
            column.step.append(step)
            column.value.append(value)
    return pending


def read_segments(folder: Path) -> Iterator[tuple[str, list[Point]]]:
    """What the segments in `folder` hold; a line that a kill tore was never acknowledged and is left out."""
    for path in _segments(folder):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # folded meanwhile
        for line in data.split(b"\n"):
            try:
                run, points = json.loads(line)
                yield run, [(key, value, at_ms, step) for key, value, at_ms, step in points]
            except (ValueError, TypeError):
                continue


def _remove_covered(folder: Path, series: Path) -> None:
    done = max((_number(path) for path in stored_segments(series)), default=0)
    for path in _segments(folder):
        if _number(path) <= done:
            path.unlink()


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def stored_segments(series: Path) -> list[Path]:
    """The files of the series store that hold points of many runs, named by the last segment that each covers."""
    return sorted(path for path in (series / "_shared").glob("*.parquet") if path.stem.isdigit())


def _number(path: Path) -> int:
    return int(path.stem)


def latest_of(lines: Sequence[tuple[str, Sequence[Point]]]) -> list[tuple[str, str, float, int, int]]:
    """The points of `recovered`, as the index takes them."""
    return [(run, key, value, at_ms, step) for run, points in lines for key, value, at_ms, step in points]
