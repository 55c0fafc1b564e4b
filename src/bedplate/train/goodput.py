"""The goodput ledger: every second of a run is in exactly one bucket. A pure fold over what the ledger and the journals say.

Each rank's time is cut into intervals that follow one another; its `timing` rows say what was done in them, what lies between says
itself. Buckets are means over the ranks, so they sum to the wall time of the run, from when it was asked for to its end.
Does not know: files, events' storage, or why a rank is slow (that is `doctor`'s).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bedplate.core.clock import human_duration

BUCKETS: Final = ("compute", "communication", "input_wait", "checkpoint_stall", "lost_work", "recovery", "start_up", "idle")
MEANING: Final = {
    "compute": "forward, backward and the optimizer's step",
    "communication": "waiting for other ranks or the link, not hidden behind compute",
    "input_wait": "waiting for the next batch",
    "checkpoint_stall": "steps waiting for a checkpoint",
    "lost_work": "steps done again after a restart",
    "recovery": "from a failure to the next step",
    "start_up": "from the start of the first attempt to its first step",
    "idle": "waiting for a place, user code between steps, and what follows the last step",
}
GUESSED_MTBF_S: Final = 24 * 3600.0  # where no failure was seen: the mean time between failures that an interval is chosen for

TOGETHER_S: Final = 0.05  # entries within it may be of one drain

_OF_SPAN: Final = {
    "compute": "compute",
    "optimizer": "compute",
    "communication": "communication",
    "input": "input_wait",
    "checkpoint": "checkpoint_stall",
    "host": "idle",
}


@dataclass(frozen=True)
class Row:
    """A `timing` row of a rank's journal as an interval: seconds since the epoch, seconds by span, its last step and how many it has."""

    start_s: float
    end_s: float
    step: int
    steps: int
    spans_s: Mapping[str, float]
    begins: bool = False


@dataclass(frozen=True)
class AttemptTimes:
    """One attempt: when it was started and ended (None while it lasts), whether it failed, and its rows by rank.

    `checkpoints` is how many were committed, `restarts` how often ranks were replaced in place.
    """

    started_s: float
    ended_s: float | None
    failed: bool
    rows: Mapping[str, Sequence[Row]]
    checkpoints: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class Gain:
    """A fix: what to do about a bucket, and the seconds that it would have saved."""

    bucket: str
    fix: str
    gain_s: float


@dataclass(frozen=True)
class Goodput:
    """The ledger of one run: seconds by bucket, which sum to `wall_s`."""

    wall_s: float
    seconds: Mapping[str, float]
    steps: int
    checkpoints: int
    failures: int
    gains: tuple[Gain, ...]

    @property
    def share(self) -> float:
        """The part of the wall time that was compute, not to be done again."""
        return self.seconds["compute"] / self.wall_s if self.wall_s > 0 else 0.0

    def __str__(self) -> str:
        return "\n".join(in_words(self))

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as `--json` prints it."""
        gains = [{"bucket": gain.bucket, "fix": gain.fix, "gain_s": gain.gain_s} for gain in self.gains]
        shown = {"wall_s": self.wall_s, "goodput": self.share, "seconds": dict(self.seconds), "steps": self.steps}
        return {**shown, "checkpoints": self.checkpoints, "failures": self.failures, "gains": gains}


def rows_of(entries: Iterable[tuple[float, Mapping[str, Any]]]) -> list[Row]:
    """The rows of one rank, from its `timing` entries in their order: when each was written (seconds since the epoch), and its body.

    Entries that were written together follow one another, the last one ending `since` before it was written.
    """
    rows: list[Row] = []
    written_s, begun_s = math.inf, math.inf  # of the entry that follows
    for at_s, body in reversed(list(entries)):
        spans_s = {name: sum(values) / 1e6 for name, values in body["spans"].items()}
        together = written_s - at_s < TOGETHER_S and begun_s < at_s
        end_s = begun_s if together else at_s - body["since"] / 1e6
        written_s, begun_s = at_s, end_s - sum(spans_s.values())
        rows.append(Row(begun_s, end_s, int(body["step"]), int(body["steps"]), spans_s, bool(body.get("start"))))
    return rows[::-1]


def fold(created_s: float, ended_s: float | None, attempts: Sequence[AttemptTimes]) -> Goodput:
    """The ledger of a run that was created at `created_s` and ended at `ended_s` (None while it lasts: then up to its newest row)."""
    seconds = dict.fromkeys(BUCKETS, 0.0)
    furthest = 0
    cursor_s = created_s
    for number, attempt in enumerate(attempts):
        seconds["recovery" if number else "idle"] += max(0.0, attempt.started_s - cursor_s)
        start_s = max(cursor_s, attempt.started_s)
        end_s = attempt.ended_s if attempt.ended_s is not None else max(_newest_s(attempt), start_s)
        cursor_s = max(start_s, end_s)
        reached = furthest
        for rows in attempt.rows.values() or [()]:
            spent = _Rank(start_s, first=number == 0, furthest=furthest)
            for row in rows:
                spent.add(row, cursor_s)
            spent.end(cursor_s, attempt.failed)
            reached = max(reached, spent.furthest)
            for bucket, duration_s in spent.seconds.items():
                seconds[bucket] += duration_s / max(1, len(attempt.rows))
        furthest = reached
    if ended_s is not None:
        seconds["idle"] += max(0.0, ended_s - cursor_s)
        cursor_s = max(cursor_s, ended_s)
    checkpoints = sum(attempt.checkpoints for attempt in attempts)
    failures = sum(attempt.failed + attempt.restarts for attempt in attempts)
    wall_s = cursor_s - created_s
    return Goodput(wall_s, seconds, furthest, checkpoints, failures, gains(seconds, wall_s, checkpoints, failures))


def gains(seconds: Mapping[str, float], wall_s: float, checkpoints: int, failures: int) -> tuple[Gain, ...]:
    """What each fix would have saved, the largest first; nothing below a thousandth of the wall time."""
    lost_s = seconds["lost_work"]
    best_s = _best_checkpointing_s(seconds["checkpoint_stall"], wall_s, checkpoints, failures)
    checkpointing_s = max(0.0, seconds["checkpoint_stall"] + lost_s - best_s)
    often = seconds["checkpoint_stall"] >= lost_s
    found = [
        Gain("input_wait", "read batches ahead, or make the loader faster: `bedplate doctor RUN` says which", seconds["input_wait"]),
        Gain("communication", "hide or shrink what the ranks send, or even them out: `bedplate doctor RUN`", seconds["communication"]),
        Gain(
            "checkpoint_stall" if often else "lost_work",
            f"write checkpoints {'less' if often else 'more'} often: `checkpoint: auto` picks the interval",
            checkpointing_s,
        ),
        Gain("recovery", "keep a spare warm, or let fewer things fail: `bedplate explain RUN` names what failed", seconds["recovery"]),
        Gain("idle", "take what is done between steps out of the loop, or ask for a place that is free", seconds["idle"]),
        Gain("start_up", "let a server that has imported torch start the run", seconds["start_up"]),
    ]
    return tuple(sorted((gain for gain in found if gain.gain_s > wall_s / 1000), key=lambda gain: -gain.gain_s))


def best_interval_s(stall_s: float, mtbf_s: float) -> float:
    """The time between checkpoints that loses least, for a stall each and a mean time between failures.

    J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17(9), 1974: sqrt(2 * stall * MTBF).
    """
    return math.sqrt(2 * stall_s * mtbf_s)


def _best_checkpointing_s(stall_s: float, wall_s: float, checkpoints: int, failures: int) -> float:
    """What checkpoints and steps done again would have cost together at the best interval."""
    if not checkpoints or stall_s <= 0:
        return 0.0
    each_s = stall_s / checkpoints
    mtbf_s = wall_s / failures if failures else GUESSED_MTBF_S
    interval_s = best_interval_s(each_s, mtbf_s)
    return wall_s / interval_s * each_s + failures * min(interval_s, wall_s) / 2


def in_words(ledger: Goodput) -> list[str]:
    """The buckets and their gains in words."""
    if ledger.wall_s <= 0:
        return ["nothing has happened yet"]
    width = max(map(len, MEANING))
    lines = [f"{ledger.share:.1%} of {human_duration(ledger.wall_s)} was compute that counts"]
    for bucket, seconds in ledger.seconds.items():
        lines.append(f"  {bucket.ljust(width)}  {seconds:10.2f} s  {seconds / ledger.wall_s:6.1%}  {MEANING[bucket]}")
    return lines + [f"  {human_duration(gain.gain_s)} less {gain.bucket}: {gain.fix}" for gain in ledger.gains]


class _Rank:
    """The fold of one rank's rows in one attempt."""

    def __init__(self, start_s: float, *, first: bool, furthest: int) -> None:
        self.seconds = dict.fromkeys(BUCKETS, 0.0)
        self.furthest = furthest
        self._cursor_s = start_s
        self._before = "start_up" if first else "recovery"
        self._known = furthest  # steps up to here were done before
        self._stepped = False

    def add(self, row: Row, limit_s: float) -> None:
        """One more row, cut at the end of the attempt."""
        if row.begins and self._stepped:
            self._before, self._known, self._stepped = "recovery", self.furthest, False
        start_s = min(max(row.start_s, self._cursor_s), limit_s)
        end_s = min(max(row.end_s, start_s), limit_s)
        self.seconds["idle" if self._stepped else self._before] += start_s - self._cursor_s
        self._cursor_s = end_s
        if not row.steps:
            self._zero(row, end_s - start_s)
            return
        self._stepped = True
        done_before = max(0, min(row.steps, self._known - (row.step - row.steps)))
        again = done_before / row.steps
        self.seconds["lost_work"] += again * (end_s - start_s)
        self._spread(row, (1 - again) * (end_s - start_s))
        self.furthest = max(self.furthest, row.step)

    def end(self, end_s: float, failed: bool) -> None:
        """What is left to the attempt's end: a failure that was not yet noticed, else what follows the last step."""
        after = "idle" if self._stepped else self._before
        self.seconds["recovery" if failed and self._stepped else after] += max(0.0, end_s - self._cursor_s)

    def _zero(self, row: Row, duration_s: float) -> None:
        if self._stepped:
            self._spread(row, duration_s)
        else:
            self.seconds[self._before] += duration_s

    def _spread(self, row: Row, duration_s: float) -> None:
        total_s = sum(row.spans_s.values())
        for span, spent_s in row.spans_s.items():
            bucket = _OF_SPAN[span]
            if bucket == "idle" and row.steps and not row.spans_s.get("compute"):
                bucket = "compute"  # the user's code calls backward itself: nobody else computes
            self.seconds[bucket] += duration_s * spent_s / total_s if total_s else 0.0
        if not total_s:
            self.seconds["idle"] += duration_s


def _newest_s(attempt: AttemptTimes) -> float:
    return max((rows[-1].end_s for rows in attempt.rows.values() if rows), default=attempt.started_s)
