"""The answer log: what an endpoint said, appended to a stream in the background and drained to a table.

`remember` puts a record into a bounded queue and returns. One thread appends batches to the stream, durably, at most `FLUSH_S` after
they came; a second one calls `drain` at most once a `DRAIN_S` when there is something new. A failed append is reported and tried again
with the same numbers, which the stream recognizes, so nothing is stored twice. What is lost is counted: records that came while the
queue was full, and, at a kill, those of the last `FLUSH_S`: how many were taken is noted in shared memory, which outlives the process, and
whoever opens the log next under the same name finds how many of them the stream does not have.
Does not know: the stream's format, what `drain` does, or what is in a record.
"""

from __future__ import annotations

import json
import mmap
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from bedplate.core.protocols import WritableStream

FLUSH_S = 0.05
DRAIN_S = 1.0
RETRY_S = 0.5
CAPACITY = 10_000
TALLY_FILE = "answers.tally"
_TALLY = struct.Struct("<QQ")  # records taken, and those of them that are known to be lost
BATCH = 1_000
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def lost_answers(tally: Path) -> int:
    """How many answers the processes of one producer lost, as far as it is known; those of the newest kill once it was replaced."""
    data = tally.read_bytes() if tally.exists() else b""
    return int(_TALLY.unpack(data)[1]) if len(data) == _TALLY.size else 0


def settle(stream: WritableStream, producer: str, tally: Path) -> int:
    """Count what a producer that is dead, and has no successor, took and did not store; how many it lost in all."""
    if not tally.exists():
        return 0
    with _mapped(tally) as memory:
        taken, lost = _TALLY.unpack_from(memory)
        lost = max(lost, taken - stream.next_sequence(producer))
        _TALLY.pack_into(memory, 0, taken, lost)
        return int(lost)


def _mapped(tally: Path) -> mmap.mmap:
    with tally.open("a+b") as file:
        file.truncate(_TALLY.size)
        return mmap.mmap(file.fileno(), _TALLY.size)


class AnswerLog:
    """Appends records to one stream under one producer name, which no other writer may use: the attempt's own.

    A restarted process goes on with the numbers that follow the stored ones; `missed` answers of the one before were lost when it died.
    `on_error` is called, from a background thread, with every failure of the stream or the drain.
    """

    def __init__(
        self,
        stream: WritableStream,
        producer: str,
        *,
        drain: Callable[[], int],
        on_error: Callable[[Exception], None],
        tally: Path,
        capacity: int = CAPACITY,
    ) -> None:
        """Start both threads. `drain` returns how many records it moved; `tally` is a file of this producer's; `capacity` counts records in
        memory.
        """
        self._stream = stream
        self._producer = producer
        self._drain = drain
        self._on_error = on_error
        self._capacity = capacity
        self._sequence = stream.next_sequence(producer)
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._stored = threading.Event()
        self._closing = threading.Event()
        self._written = 0
        self._drained = 0
        self._memory = _mapped(tally)
        self._taken, self._lost = _TALLY.unpack_from(self._memory)
        self.missed = max(0, self._taken - self._lost - self._sequence)
        self._lost += self.missed
        self._note()
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for target, name in self._targets()]
        for thread in self._threads:
            thread.start()

    def _targets(self) -> list[tuple[Callable[[], None], str]]:
        return [(self._write_all, "answers-write"), (self._drain_all, "answers-drain")]

    def remember(self, record: Mapping[str, Any]) -> None:
        """Take one JSON record; never blocks. Raises TypeError or ValueError for what JSON cannot hold."""
        value = _ENCODER.encode(record).encode()
        with self._changed:
            self._taken += 1
            full = len(self._queue) >= self._capacity or self._closing.is_set()
            self._lost += full
            self._note()
            if full:
                return
            self._queue.append(value)
            if len(self._queue) == 1:
                self._changed.notify()

    def _note(self) -> None:
        _TALLY.pack_into(self._memory, 0, self._taken, self._lost)

    def health(self) -> dict[str, int]:
        """Records so far: `written` to the stream, `queued` in memory, `drained` to the table; and `lost` for good, at kills too."""
        with self._changed:
            return {"written": self._written, "queued": len(self._queue), "lost": self._lost, "drained": self._drained}

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what is queued, drain once more, end the threads. Returns False when something is left or a thread did not end in time."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._stored.set()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        ended = not any(thread.is_alive() for thread in self._threads)
        with self._changed:
            left = len(self._queue)
            if ended:
                self._lost += left
                self._note()
                self._queue.clear()
            return ended and not left

    def _write_all(self) -> None:
        while self._wait():
            self._closing.wait(FLUSH_S)  # let a batch gather: one durable append for many answers
            self._append_queued()
            if self._queue and self._closing.wait(RETRY_S):
                self._append_queued()  # the last try
                return

    def _append_queued(self) -> None:
        while self._queue and self._append():
            pass

    def _wait(self) -> bool:
        """Wait for a record; False when the log closes with nothing left."""
        with self._changed:
            while not self._queue and not self._closing.is_set():
                self._changed.wait()
            return bool(self._queue)

    def _append(self) -> bool:
        with self._changed:
            batch = list(islice(self._queue, BATCH))
        try:
            self._stream.append(batch, producer=self._producer, sequence=self._sequence)
        except Exception as error:  # noqa: BLE001 - any failure of a stream is reported, and the batch is tried again
            self._on_error(error)
            return False
        self._sequence += len(batch)
        with self._changed:
            for _ in batch:
                self._queue.popleft()
            self._written += len(batch)
        self._stored.set()
        return True

    def _drain_all(self) -> None:
        """A restarted process drains first: its predecessor may have been killed between an append and a drain."""
        while not self._closing.is_set():
            self._drain_once()
            self._closing.wait(DRAIN_S)
            self._stored.wait()
            self._stored.clear()
        self._threads[0].join()
        self._drain_once()

    def _drain_once(self) -> None:
        try:
            moved = self._drain()
        except Exception as error:  # noqa: BLE001 - any failure of an ingest is reported, and the next drain takes what it left
            self._on_error(error)
            self._stored.set()
            return
        with self._changed:
            self._drained += moved
