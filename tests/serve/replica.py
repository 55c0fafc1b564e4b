"""What the serving tests share: a listener in a thread, and a stream in memory with the behavior that the protocol promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bedplate.core.protocols import StreamRecord
from bedplate.serve.listen import Listener, bind


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of `app`, served by a real server on a free port while the context is open."""
    ready, ports = threading.Event(), list[int]()

    def on_ready(port: int) -> None:
        ports.append(port)
        ready.set()

    listener = Listener(app, bind(0), on_ready=on_ready)
    thread = threading.Thread(target=listener.serve_until_stopped)
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        listener.stop()
        thread.join(30)
        assert not thread.is_alive()


class MemoryStream:
    """One partition in memory. `failures` are raised by the next appends, before or (`after`) once the records are stored."""

    identity = "memory"

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.after = False
        self.gate = threading.Event()
        self.gate.set()
        self._sequences: dict[str, int] = {}

    def end_offsets(self) -> dict[int, int]:
        return {0: len(self.values)}

    def read(self, partition: int, offset: int, limit: int) -> Sequence[StreamRecord]:
        return [StreamRecord(partition, offset + i, 0.0, value) for i, value in enumerate(self.values[offset : offset + limit])]

    def append(self, values: Sequence[bytes], *, producer: str, sequence: int) -> int:
        assert self.gate.wait(30)
        failure = self.failures.pop(0) if self.failures else None
        if failure and not self.after:
            raise failure
        known = self._sequences.get(producer, 0)
        assert sequence <= known, "a gap in the numbers of a producer"
        new = list(values)[known - sequence :]
        self.values += new
        self.batches.append(len(new))
        self._sequences[producer] = known + len(new)
        if failure:
            raise failure
        return len(new)

    def next_sequence(self, producer: str) -> int:
        return self._sequences.get(producer, 0)
