"""Timers that are always on: where the time of every step of one rank goes, by a clock that is handed in.

At any instant exactly one span is on. Opening one stops the one around it, closing it goes on with that, so the spans of a step never
overlap and sum to its wall time. What is in no span is `host`: user code between the calls of the run context. Where each goes:

- `input`: the loop, around waiting for the feed's next batch, encoding it and bringing it to the device
- `compute`: `run.backward`, forward and backward together (`move` takes out of it the communication that was not hidden)
- `communication`: meetings of the ranks, clipping over ranks, sends and receives of a pipeline's schedule that wait
- `optimizer`: `run.update`
- `checkpoint`: the loop, around `Keeper.save`, `Keeper.wait` and the copy into memory that a rank keeps for its neighbours

`begin` is called where a training loop begins, its state restored: what was before is no part of its first step. `end_step` is called
where a step ends: just before the meeting, or before the next batch is asked for. `drain` is called at meetings: once a second it gives
a row for the journal (kind `timing`), at the end of a loop and of a run with `last=True` whatever is left.

Closing a step and a span costs about a microsecond each; a device is never waited for. With `event`, one is recorded in the device's
queue where the first computation of a step begins and one where the step ends, and they are asked only when the device is past them.
Does not know: what the times mean (`goodput`, `doctor`), or torch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

SPANS: Final = ("host", "input", "compute", "communication", "optimizer", "checkpoint")
ROW_EVERY_S = 1.0
ROW_ENTRIES = 32

_INDEX = {name: index for index, name in enumerate(SPANS)}
_COMPUTE = _INDEX["compute"]


class DeviceEvent(Protocol):
    """What is used of `torch.cuda.Event(enable_timing=True)`."""

    def record(self) -> None:
        """Put it at the end of the device's queue."""
        ...

    def query(self) -> bool:
        """Whether the device is past it."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this to `end_event`."""
        ...


class Timers:
    """The timers of one rank. Used from the thread of the training loop only."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        counters: Callable[[], Mapping[str, float]] | None = None,
        delay: Callable[[], float] | None = None,
        event: Callable[[], DeviceEvent] | None = None,
    ) -> None:
        """Begin now, in `host`. `clock` gives seconds and never goes back; `counters` gives totals that a row has the growth of.

        `delay` gives the seconds that this thread was ready to run but had no processor; it is read at the end of every step.
        """
        self._clock = clock
        self._counters = counters
        self._counted = counters() if counters is not None else {}
        self._totals = [0.0] * len(SPANS)
        self._delay = delay
        self._delayed_s = delay() if delay is not None else 0.0
        self._delays: list[float] = []
        self._stack: list[int] = []
        self._current = 0
        self._mark_s = self._row_began_s = clock()
        self._spans = {name: _Span(self, index) for name, index in _INDEX.items()}
        self._steps: list[list[float]] = []
        self._rows: list[dict[str, Any]] = []
        self._begun = False
        self._micro_batches = 1
        self._last_step = 0
        self._device = _Device(event) if event is not None else None

    def span(self, name: str) -> _Span:
        """A context manager for a part of the step, always the same object. Raises KeyError for a name that is none of `SPANS`."""
        return self._spans[name]

    def move(self, source: str, target: str, duration_s: float) -> None:
        """Take seconds of this step from one span and give them to another: what is learned after a span has ended. Never below zero."""
        self._lap()
        moved_s = min(duration_s, self._totals[_INDEX[source]])
        self._totals[_INDEX[source]] -= moved_s
        self._totals[_INDEX[target]] += moved_s

    def spent_s(self, name: str) -> float:
        """Seconds in a span since the last step ended."""
        self._lap()
        return self._totals[_INDEX[name]]

    def begin(self) -> None:
        """A loop begins now. The first time, what was before is a row with `start`: building the model, restoring its state."""
        self._lap()
        before = {**self._row([self._totals], self._last_step, 0.0), "steps": 0}
        self._rows.append(before if self._begun else {**before, "start": True})
        self._begun = True
        self._totals = [0.0] * len(SPANS)

    def end_step(self, step: int, micro_batches: int = 1) -> None:
        """Close step number `step`. What is on goes on into the next step."""
        self._lap()
        self._steps.append(self._totals)
        self._totals = [0.0] * len(SPANS)
        self._micro_batches = micro_batches
        self._last_step = step
        if self._delay is not None:
            delayed_s = self._delay()
            self._delays.append(delayed_s - self._delayed_s)
            self._delayed_s = delayed_s
        if self._device is not None:
            self._device.end_step()

    def drain(self, last: bool = False) -> list[dict[str, Any]]:
        """Rows for the journal: none until a second has passed since the ones before, unless it is the `last` time.

        A row: `step` is the number of its last step, `steps` how many it has, `per` how many of them each entry of the lists under
        `spans` sums up (microseconds; spans that were never on are left out; the last entry may have fewer), `longest` the longest single
        step and `since` the time since the last one ended, both in microseconds; `micro_batches` of a step; `counters` what each grew by.
        `delay` is the time without a processor, in entries like those of a span, inside of which it was.
        A device's times are `device` {`busy`, `idle`} in microseconds over `steps` of its own. A row of 0 steps has the time before
        or after a loop. Rows follow one another without a gap, the newest ending `since` before now.
        """
        now_s = self._lap()
        if not last and (now_s - self._row_began_s < ROW_EVERY_S or not self._steps):
            return []
        rows, self._rows = self._rows, []
        if self._steps:
            rows.append(self._row(self._steps, self._last_step, sum(self._totals)))
        if last and any(total >= 1e-6 for total in self._totals):
            rows.append({**self._row([self._totals], self._last_step, 0.0), "steps": 0})
            self._totals = [0.0] * len(SPANS)
        self._steps, self._delays = [], []
        self._row_began_s = now_s
        return rows

    def _row(self, steps: list[list[float]], last_step: int, since_s: float) -> dict[str, Any]:
        per = -(-len(steps) // ROW_ENTRIES)
        grouped = [[sum(column) for column in zip(*steps[start : start + per], strict=True)] for start in range(0, len(steps), per)]
        columns = {name: [round(1e6 * entry[index]) for entry in grouped] for name, index in _INDEX.items()}
        row: dict[str, Any] = {
            "step": last_step,
            "steps": len(steps),
            "per": per,
            "micro_batches": self._micro_batches,
            "longest": round(1e6 * max(map(sum, steps))),
            "since": round(1e6 * since_s),
            "spans": {name: values for name, values in columns.items() if any(values)},
        }
        if any(self._delays):
            row["delay"] = [round(1e6 * sum(self._delays[start : start + per])) for start in range(0, len(steps), per)]
        if self._counters is not None:
            counted = self._counters()
            row["counters"] = {name: round(value - self._counted.get(name, 0.0), 6) for name, value in counted.items()}
            self._counted = counted
        if self._device is not None:
            row["device"] = self._device.drain()
        return row

    def _lap(self) -> float:
        now_s = self._clock()
        self._totals[self._current] += now_s - self._mark_s
        self._mark_s = now_s
        return now_s

    def _open(self, index: int) -> None:
        self._lap()
        self._stack.append(self._current)
        self._current = index
        if index == _COMPUTE and self._device is not None:
            self._device.begin_compute()

    def _close(self) -> None:
        self._lap()
        self._current = self._stack.pop()


class _Span:
    __slots__ = ("_index", "_timers")

    def __init__(self, timers: Timers, index: int) -> None:
        self._timers = timers
        self._index = index

    def __enter__(self) -> None:
        self._timers._open(self._index)

    def __exit__(self, *_: object) -> None:
        self._timers._close()


class _Device:
    """Events in the queue of an accelerator: how long it was busy in a step, and how long it waited for the next to begin."""

    def __init__(self, event: Callable[[], DeviceEvent]) -> None:
        self._event = event
        self._begun: DeviceEvent | None = None
        self._ended: DeviceEvent | None = None
        self._waiting: deque[tuple[DeviceEvent | None, DeviceEvent, DeviceEvent]] = deque()
        self._spare: list[DeviceEvent] = []

    def begin_compute(self) -> None:
        if self._begun is None:
            self._begun = self._recorded()

    def end_step(self) -> None:
        if self._begun is None:
            return
        ended = self._recorded()
        self._waiting.append((self._ended, self._begun, ended))
        self._begun, self._ended = None, ended

    def drain(self) -> dict[str, int]:
        busy_ms = idle_ms = 0.0
        steps = 0
        while self._waiting and self._waiting[0][2].query():
            before, begun, ended = self._waiting.popleft()
            busy_ms += begun.elapsed_time(ended)
            if before is not None:
                idle_ms += before.elapsed_time(begun)
                self._spare.append(before)
            self._spare.append(begun)
            steps += 1
        return {"steps": steps, "busy": round(1e3 * busy_ms), "idle": round(1e3 * idle_ms)}

    def _recorded(self) -> DeviceEvent:
        event = self._spare.pop() if self._spare else self._event()
        event.record()
        return event
