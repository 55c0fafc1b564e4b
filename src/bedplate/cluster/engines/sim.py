"""The simulated launcher: attempts that exist only as journals, with preemption, loss, delay and duplication drawn from a seed.

The very same loop ingests the journals it writes. Time is a `SimClock`'s; a seed gives the same history again.
Does not know: processes; nothing is executed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bedplate.core.attempt import Attempt
from bedplate.core.clock import Clock, SystemClock
from bedplate.core.journal import JournalWriter
from bedplate.core.protocols import Liveness, Rendered

Script = Callable[[Attempt], list[tuple[float, str, dict[str, Any]]]]


@dataclass(frozen=True)
class Faults:
    """How likely each fault is for an attempt (a fraction), and the most that an entry is delayed, in seconds."""

    preempted: float = 0.0
    lost: float = 0.0
    duplicated: float = 0.0
    delay_s: float = 0.0


@dataclass
class _Simulated:
    attempt: Attempt
    entries: list[tuple[float, str, dict[str, Any]]]
    journal: JournalWriter
    lost_at_s: float | None = None
    ended: bool = False


def succeed(_attempt: Attempt) -> list[tuple[float, str, dict[str, Any]]]:
    """The script of an attempt that ends well after a second."""
    return [(1.0, "ended", {"status": "succeeded", "failure": None, "message": ""})]


class SimLauncher:
    """Plays `script(attempt)`, a list of (seconds after the start, kind, body), into the attempt's journal as `clock` moves."""

    name = "sim"

    def __init__(self, script: Script = succeed, clock: Clock | None = None, seed: int = 0, faults: Faults | None = None) -> None:
        """`seed` draws the faults; print it when a test fails."""
        self._script = script
        self._clock = clock or SystemClock()
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._faults = faults or Faults()
        self._live: dict[str, _Simulated] = {}
        self.submitted: list[tuple[str, int]] = []

    def render(self, attempt: Attempt) -> Rendered:
        """What would be started, were it real. Pure."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Begin to play; an attempt that was submitted before goes on."""
        if attempt.folder not in self._live:
            self.submitted.append((attempt.run, attempt.token))
            now_s = self._clock.now()
            entries = [
                (now_s + after_s + self._random.uniform(0, self._faults.delay_s), kind, body)
                for after_s, kind, body in self._script(attempt)
            ]
            simulated = _Simulated(attempt, sorted(entries, key=lambda entry: entry[0]), JournalWriter(attempt.path, "shim"))
            last_s = simulated.entries[-1][0] if entries else now_s
            if self._random.random() < self._faults.lost:
                simulated.lost_at_s = self._random.uniform(now_s, last_s)
            elif self._random.random() < self._faults.preempted:
                at_s = self._random.uniform(now_s, last_s)
                kept = [entry for entry in simulated.entries if entry[0] < at_s and entry[1] != "ended"]
                lost = {"status": "failed", "failure": "worker_lost", "message": "preempted"}
                simulated.entries = [*kept, (at_s, "ended", lost)]
            self._live[attempt.folder] = simulated
        return {"folder": attempt.folder, "token": attempt.token}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """Play up to now; `gone` after the end, or after a loss."""
        simulated = self._live.get(handle["folder"])
        if simulated is None:
            return "gone"
        self._play(simulated)
        lost = simulated.lost_at_s is not None and self._clock.now() >= simulated.lost_at_s
        return "gone" if simulated.ended or lost else "alive"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """Nothing is printed in a simulation."""
        yield from ()

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """End it now: `stop` writes the end that a notice leads to, `cancel` writes nothing."""
        simulated = self._live.get(handle["folder"])
        if simulated is None or simulated.ended:
            return
        simulated.entries = [(self._clock.now(), "ended", {"status": "stopped", "failure": None, "message": ""})] if how == "stop" else []
        simulated.lost_at_s = None if how == "stop" else self._clock.now()
        self._play(simulated)

    def _play(self, simulated: _Simulated) -> None:
        now_s = self._clock.now()
        limit_s = now_s if simulated.lost_at_s is None else min(now_s, simulated.lost_at_s)
        due = [entry for entry in simulated.entries if entry[0] <= limit_s]
        simulated.entries = simulated.entries[len(due) :]
        for _, kind, body in due:
            for _ in range(2 if self._random.random() < self._faults.duplicated and kind != "ended" else 1):
                simulated.journal.write(kind, **body)
            simulated.ended = simulated.ended or kind == "ended"
