"""The timers' rows as a Chrome trace (JSON), which chrome://tracing and Perfetto open: a process a rank, a thread for its spans.

Rows sum up steps; so within an entry spans are laid end to end in the order in which they come in a step.
The format: "Trace Event Format" of the Catapult project, complete events (`ph` X, times in microseconds) and metadata (`ph` M).
Does not know: journals, or what is slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

ORDER: Final = ("input", "host", "compute", "communication", "optimizer", "checkpoint")


def chrome_trace(ranks: Mapping[int, Sequence[tuple[float, Mapping[str, Any]]]], marks: Iterable[tuple[float, str]] = ()) -> dict[str, Any]:
    """The trace of each rank's `timing` rows with the end of each in seconds since the epoch, and of named instants. Times start at 0."""
    ends = [end_s for rows in ranks.values() for end_s, _ in rows]
    zero_s = min((end_s - _length_us(row) / 1e6 for rows in ranks.values() for end_s, row in rows), default=min(ends, default=0.0))
    events: list[dict[str, Any]] = []
    for rank, rows in ranks.items():
        events.append({"name": "process_name", "ph": "M", "pid": rank, "tid": 0, "args": {"name": f"rank {rank}"}})
        events.append({"name": "thread_name", "ph": "M", "pid": rank, "tid": 0, "args": {"name": "training loop"}})
        for end_s, row in rows:
            events += _row(rank, 1e6 * (end_s - zero_s) - _length_us(row), row)
    events += [{"name": name, "ph": "i", "s": "g", "pid": 0, "tid": 0, "ts": round(1e6 * (at_s - zero_s), 1)} for at_s, name in marks]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _row(rank: int, start_us: float, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    events = []
    entries = max((len(values) for values in row["spans"].values()), default=0)
    first = row["step"] - row["steps"]
    for entry in range(entries):
        steps = min(row["per"], row["steps"] - entry * row["per"]) if row["steps"] else 0
        named = f"steps {first + 1} to {first + steps}" if steps > 1 else f"step {first + 1}" if steps else "outside of steps"
        first += steps
        for span in ORDER:
            duration_us = row["spans"].get(span, [0] * entries)[entry]
            if duration_us:
                shown = {"name": span, "cat": "timers", "ph": "X", "pid": rank, "tid": 0, "ts": round(start_us, 1), "dur": duration_us}
                events.append({**shown, "args": {"of": named}})
                start_us += duration_us
    return events


def _length_us(row: Mapping[str, Any]) -> float:
    return float(sum(map(sum, row["spans"].values())))
