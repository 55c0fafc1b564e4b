"""A follower: brings new records of streams into their tables and into an online store, again and again, and says how far behind it is.

A dataset is followed as long as its table only grows: when the table was begun anew (another stream, another declaration) the store must
be made anew too, and the follower leaves it as it is and says so.
Does not know: how exactly-once is reached (`data.ingest`, `apply`), or who reads the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bedplate.core.clock import Clock
from bedplate.core.protocols import Stream
from bedplate.core.spec import Dataset
from bedplate.data.cut import read_cut
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.online.store import OnlineStore
from bedplate.data.target import epoch_of

FOLLOW_S = 1.0
EXPIRE_S = 600.0


@dataclass(frozen=True)
class Followed:
    """A dataset to follow: its declaration, its stream, and the epoch of the table that the store was made of."""

    dataset: Dataset
    stream: Stream
    epoch: int


@dataclass(frozen=True)
class Lag:
    """How far the store is behind a stream: records that are not in it, and for how long there have been any, in seconds.

    `stopped` says why the dataset is not followed any more, empty while it is.
    """

    records: int
    seconds: float
    stopped: str = ""


class Follower:
    """Follows streams from a thread of its own, between `start` and `close`."""

    def __init__(
        self, store: OnlineStore, lake: Lake, followed: Mapping[str, Followed], clock: Clock, on_error: Callable[[Exception], None]
    ) -> None:
        """Nothing is read yet. `on_error` is called from the thread with every failure; what failed is tried again."""
        self._store = store
        self._lake = lake
        self._followed = dict(followed)
        self._clock = clock
        self._on_error = on_error
        self._stopped: dict[str, str] = {}
        self._done: dict[str, Mapping[int, int]] = {}  # the offsets before which all is in the store, or in quarantine
        self._behind_since_s: dict[str, float] = {}
        self._records: dict[str, int] = dict.fromkeys(followed, 0)
        self._expired_s = clock.now()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="features-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> bool:
        """End the thread after the batch that it is at; False when it did not end in time."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def lag(self) -> dict[str, Lag]:
        """How far the store was behind each stream when it was last looked at."""
        now_s = self._clock.now()
        return {name: Lag(count, self._seconds(name, now_s), self._stopped.get(name, "")) for name, count in self._records.items()}

    def step(self) -> int:
        """Bring in what there is now; returns how many rows were applied."""
        count = 0
        for name, followed in self._followed.items():
            if name not in self._stopped:
                count += self._step(name, followed)
        if self._clock.now() - self._expired_s > EXPIRE_S:
            self._expired_s = self._clock.now()
            self._store.expire(round(self._expired_s * 1e6))
        return count

    def _step(self, name: str, followed: Followed) -> int:
        ends = followed.stream.end_offsets()
        self._look(name, ends)
        if name in self._done and not self._records[name]:
            return 0
        cut = ingest_stream(name, followed.dataset, followed.stream, str(followed.dataset.topic), self._lake, _silent)
        table = self._lake.table(name, cut.table_version)
        if table is None or epoch_of(table) != followed.epoch:
            self._stopped[name] = "its table was begun anew: run the endpoint's features step"
            return 0
        applied = self._store.applied()[name]
        count = 0
        if any(end > applied.offsets.get(partition, 0) for partition, end in cut.offsets.items()):
            rows = read_cut(self._lake, name, cut.table_version, followed.dataset, applied.offsets)
            count = self._store.apply(name, rows, round(self._clock.now() * 1e6))
        self._done[name] = cut.offsets
        self._look(name, ends)
        return count

    def _look(self, name: str, ends: Mapping[int, int]) -> None:
        done = self._done.get(name, {})
        self._records[name] = sum(max(0, end - done.get(partition, 0)) for partition, end in ends.items())
        if self._records[name]:
            self._behind_since_s.setdefault(name, self._clock.now())
        else:
            self._behind_since_s.pop(name, None)

    def _seconds(self, name: str, now_s: float) -> float:
        since_s = self._behind_since_s.get(name)
        return 0.0 if since_s is None else max(0.0, now_s - since_s)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - any failure of a stream, a table or a database is reported and tried again
                self._on_error(error)
            self._closing.wait(FOLLOW_S)


def _silent(_done: int, _total: int) -> None:
    return None
