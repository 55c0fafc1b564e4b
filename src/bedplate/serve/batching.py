"""Batches: requests that wait at the same time are answered by one call of a function, in a thread of its own.

While the function runs, others gather; with a `delay` the first one also waits for company. The event loop is free meanwhile, so that a
slow model does not keep health checks or other requests waiting. The line is bounded and fair between callers; a request that waits
longer than the deadline gets one error, and what nobody waits for any more is not begun. When a batch fails, each of its requests is tried
alone, so that a bad one spoils nobody else's answer.
All state belongs to the event loop; the thread only gets batches and gives results back.
Does not know: what is computed, HTTP.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from bedplate.serve.fair import FairLine

T = TypeVar("T")
R = TypeVar("R")
PATIENCE_S = 0.05
_SHARE = 0.2


@dataclass(frozen=True)
class Limits:
    """`size`: rows that a batch begins to be full at. `delay_s`: how long the first row waits for others. `queue`: rows that may wait.
    `deadline_s`: how long a request may take in all.
    """

    size: int = 32
    delay_s: float = 0.0
    queue: int = 1000
    deadline_s: float = 30.0


class Full(Exception):
    """The line is full; `retry_after_s` says when it may be worth to ask again, in whole seconds."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class Late(Exception):
    """A request was not answered within the deadline."""


class Left(Exception):
    """The client of a request went away before it was answered."""


class _Job(Generic[T, R]):
    __slots__ = ("begun_s", "future", "gone", "items", "watcher")

    def __init__(self, items: Sequence[T], future: asyncio.Future[list[R]], begun_s: float, gone: Callable[[], Awaitable[None]]) -> None:
        self.items = items
        self.future = future
        self.begun_s = begun_s
        self.gone = gone
        self.watcher: asyncio.Task[None] | None = None


class Batcher(Generic[T, R]):
    """Answers rows by `work`, which takes rows and gives as many results, and is called in one thread, one batch after the other."""

    def __init__(self, work: Callable[[list[T]], Sequence[R]], limits: Limits) -> None:
        """Start the thread. Everything else is to be called in one event loop."""
        self._work = work
        self._limits = limits
        self._line: FairLine[_Job[T, R]] = FairLine()
        self._pending: dict[int, _Job[T, R]] = {}
        self._busy = False
        self._scheduled: asyncio.Handle | None = None
        self._sweeping = False
        self._row_s = 0.0
        self._batches: SimpleQueue[tuple[asyncio.AbstractEventLoop, list[_Job[T, R]]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that wait for their batch."""
        return int(self._line.cost)

    async def answer(self, caller: str, items: Sequence[T], gone: Callable[[], Awaitable[None]]) -> list[R]:
        """The results of `items`, in order.

        `gone` returns when the client has gone away; it is called only for a request that waits. Raises Full, Late, Left, or what `work`
        raised for these items.
        """
        if self._line.cost and self._line.cost + len(items) > self._limits.queue:
            raise Full(self.waiting, max(1, math.ceil(self._line.cost * self._row_s)))
        loop = asyncio.get_running_loop()
        job: _Job[T, R] = _Job(items, loop.create_future(), loop.time(), gone)
        self._pending[id(job)] = job
        self._line.put(caller, job, len(items))
        self._schedule(loop)
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(self._interval_s, self._sweep, loop)
        try:
            return await job.future
        finally:
            del self._pending[id(job)]
            if job.watcher is not None:
                job.watcher.cancel()

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread after the batch that it has. Returns whether it ended in time."""
        self._batches.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def _interval_s(self) -> float:
        return min(PATIENCE_S, max(0.005, self._limits.deadline_s / 10))

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a batch at the end of this turn of the loop, or when the first row has waited long enough; a full one does not wait."""
        if self._busy:
            return
        waits = self._limits.delay_s > 0 and self._line.cost < self._limits.size
        if self._scheduled is None:
            self._scheduled = loop.call_later(self._limits.delay_s, self._begin, loop) if waits else loop.call_soon(self._begin, loop)
        elif self._limits.delay_s > 0 and not waits:
            self._scheduled.cancel()
            self._scheduled = loop.call_soon(self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = None
        batch: list[_Job[T, R]] = []
        rows = 0
        while len(self._line) and (not batch or rows + self._line.next_cost() <= self._limits.size):
            job = self._line.take()
            if not job.future.done():
                batch.append(job)
                rows += len(job.items)
        if batch:
            self._busy = True
            self._batches.put((loop, batch))

    def _end(self, loop: asyncio.AbstractEventLoop, batch: list[_Job[T, R]], outcomes: list[list[R] | Exception], took_s: float) -> None:
        rows = sum(len(job.items) for job in batch)
        self._row_s += _SHARE * (took_s / max(1, rows) - self._row_s)
        for job, outcome in zip(batch, outcomes, strict=True):
            if job.future.done():
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
        self._busy = False
        if len(self._line):
            self._begin(loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Who waited past the deadline is told so; who waits at all is watched, for the case that the client goes away."""
        now_s = loop.time()
        for job in list(self._pending.values()):
            waited_s = now_s - job.begun_s
            if job.future.done():
                continue
            if waited_s >= self._limits.deadline_s:
                job.future.set_exception(Late())
            elif waited_s >= PATIENCE_S and job.watcher is None:
                job.watcher = loop.create_task(_watch(job))
        self._sweeping = bool(self._pending)
        if self._sweeping:
            loop.call_later(self._interval_s, self._sweep, loop)

    def _run(self) -> None:
        while (given := self._batches.get()) is not None:
            loop, batch = given
            begun_s = loop.time()
            outcomes = self._outcomes(batch)
            try:
                loop.call_soon_threadsafe(self._end, loop, batch, outcomes, loop.time() - begun_s)
            except RuntimeError:  # the loop was closed: nobody waits any more
                return

    def _outcomes(self, batch: list[_Job[T, R]]) -> list[list[R] | Exception]:
        together = self._tried([item for job in batch for item in job.items])
        if isinstance(together, Exception):
            return [together] if len(batch) == 1 else [self._tried(list(job.items)) for job in batch]
        outcomes: list[list[R] | Exception] = []
        place = 0
        for job in batch:
            outcomes.append(together[place : place + len(job.items)])
            place += len(job.items)
        return outcomes

    def _tried(self, items: list[T]) -> list[R] | Exception:
        try:
            results = list(self._work(items))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the requests of this batch
            return error
        if len(results) != len(items):
            return ValueError(f"{len(results)} results for {len(items)} rows")
        return results


async def _watch(job: _Job[T, R]) -> None:
    await job.gone()
    if not job.future.done():
        job.future.set_exception(Left())
