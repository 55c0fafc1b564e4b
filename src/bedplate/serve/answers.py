"""The answer log: what an endpoint said, appended to a stream in the background and drained to a table.

`remember` puts a record into a bounded queue and returns. One thread appends batches to the stream, durably, at most `FLUSH_S` after
they came; a second one calls `drain` at most once a `DRAIN_S` when there is something new. A failed append is reported and tried again
with the same numbers, which the stream recognizes, so nothing is stored twice. What is lost is counted: records that came while the
queue was full, and, at a kill, those of the last `FLUSH_S`.
Does not know: the stream's format, what `drain` does, or what is in a record.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from bedplate.core.protocols import WritableStream

FLUSH_S = 0.05
DRAIN_S = 1.0
RETRY_S = 0.5
CAPACITY = 10_000
BATCH = 1_000
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class AnswerLog:
    """Appends records to one stream under one producer name, which no other writer may use: the attempt's own.

    A restarted process goes on with the numbers that follow the stored ones. `on_error` is called, from a background thread, with every
    failure of the stream or the drain.
    """

    def __init__(
        self,
        stream: WritableStream,
        producer: str,
        *,
        drain: Callable[[], int],
        on_error: Callable[[Exception], None],
        capacity: int = CAPACITY,
    ) -> None:
        """Start both threads. `drain` returns how many records it moved; `capacity` counts records in memory."""
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
        self._lost = 0
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for target, name in self._targets()]
        for thread in self._threads:
            thread.start()

    def _targets(self) -> list[tuple[Callable[[], None], str]]:
        return [(self._write_all, "answers-write"), (self._drain_all, "answers-drain")]

    def remember(self, record: Mapping[str, Any]) -> None:
        """Take one JSON record; never blocks. Raises TypeError or ValueError for what JSON cannot hold."""
        value = _ENCODER.encode(record).encode()
        with self._changed:
            if len(self._queue) >= self._capacity or self._closing.is_set():
                self._lost += 1
                return
            self._queue.append(value)
            if len(self._queue) == 1:
                self._changed.notify()

    def health(self) -> dict[str, int]:
        """Records so far: `written` to the stream, `queued` in memory, `lost` for good, and `drained` to the table."""
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
