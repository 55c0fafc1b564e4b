"""The simulated launcher: attempts that exist only as journals, with preemption, loss, delay and duplication drawn from a seed.

The very same loop ingests the journals it writes. Time is a clock that is handed in; a seed gives an attempt the same history again,
whatever else is submitted and however often it is polled.
Does not know: processes; nothing is executed, and an attempt ends with the launcher that plays it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bedplate.core.attempt import Attempt
from bedplate.core.clock import Clock, SystemClock
from bedplate.core.journal import JOURNAL_FOLDER, JournalWriter
from bedplate.core.protocols import Liveness, Rendered

WRITER = "shim"

Script = Callable[[Attempt], list[tuple[float, str, dict[str, Any]]]]


@dataclass(frozen=True)
class Faults:
    """How likely each fault is, as a fraction: of an attempt to be preempted (it is told of) or lost (it falls silent), and of an entry
    to be delivered twice, under the same number. `delay_s` is the most that an entry is delayed; a writer's entries keep their order.
    """

    preempted: float = 0.0
    lost: float = 0.0
    duplicated: float = 0.0
    delay_s: float = 0.0


@dataclass(frozen=True)
class _Line:
    at_s: float
    kind: str
    body: Mapping[str, Any]
    twice: bool = False


@dataclass
class _Played:
    """An attempt that lives: what is still to be told, and when it falls silent."""

    attempt: Attempt
    journal: JournalWriter
    lines: list[_Line]
    silent_s: float = float("inf")


def succeed(_attempt: Attempt) -> list[tuple[float, str, dict[str, Any]]]:
    """The script of an attempt that ends well after a second."""
    return [(1.0, "ended", {"status": "succeeded", "failure": None, "message": ""})]


class SimLauncher:
    """Plays `script(attempt)`, a list of (seconds after the start, kind, body), into the attempt's journal as `clock` moves.

    `started` comes by itself. An attempt whose script is through, or that was lost, is gone.
    """

    name = "sim"

    def __init__(self, script: Script = succeed, clock: Clock | None = None, seed: int = 0, faults: Faults | None = None) -> None:
        """`seed` draws the faults; `str(launcher)` shows it, so that a failing test does."""
        self.seed = seed
        self.submitted: list[tuple[str, int]] = []
        self._script = script
        self._clock = clock or SystemClock()
        self._faults = faults or Faults()
        self._live: dict[str, _Played] = {}
        self._known: set[str] = set()

    def __repr__(self) -> str:
        return f"SimLauncher(seed={self.seed}, {self._faults})"

    def render(self, attempt: Attempt) -> Rendered:
        """What would be started, were it real. Pure."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Begin to play, once; an attempt that was submitted before goes on."""
        if attempt.folder not in self._known:
            self._known.add(attempt.folder)
            self.submitted.append((attempt.run, attempt.token))
            self._live[attempt.folder] = self._drawn(attempt)
            self._play(self._live[attempt.folder])
        return {"folder": attempt.folder, "token": attempt.token}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """Play up to now; `gone` after the last entry, or after a loss."""
        played = self._live.get(handle["folder"])
        return "alive" if played is not None and self._play(played) else "gone"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """Nothing is printed in a simulation."""
        yield from ()

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """End it now: `stop` writes the end that a notice leads to, `cancel` writes nothing. Harmless when gone."""
        played = self._live.get(handle["folder"])
        if played is not None and self._play(played):
            stopped = _Line(self._clock.now(), "ended", {"status": "stopped", "failure": None, "message": ""})
            played.lines = [stopped] if how == "stop" else []
            self._play(played)

    def _drawn(self, attempt: Attempt) -> _Played:
        """The attempt's history: its script with the faults that the seed has for it."""
        source = random.Random(f"{self.seed}/{attempt.run}/{attempt.token}")  # noqa: S311 - a simulation, not a secret
        begun_s = self._clock.now()
        lines = [_Line(begun_s, "started", {"identity": {"simulated": self.seed, "token": attempt.token}})]
        for after_s, kind, body in self._script(attempt):
            at_s = max(lines[-1].at_s, begun_s + after_s + source.uniform(0, self._faults.delay_s))
            lines.append(_Line(at_s, kind, body, source.random() < self._faults.duplicated))
        fault, at_s = source.random(), source.uniform(begun_s, lines[-1].at_s)
        played = _Played(attempt, JournalWriter(attempt.path, WRITER), lines)
        if fault < self._faults.lost:
            played.silent_s = at_s
        elif fault < self._faults.lost + self._faults.preempted:
            preempted = _Line(at_s, "ended", {"status": "failed", "failure": "worker_lost", "message": "preempted"})
            played.lines = [*(line for line in lines if line.at_s < at_s and line.kind != "ended"), preempted]
        return played

    def _play(self, played: _Played) -> bool:
        """Write what is due; whether the attempt lives on."""
        now_s = self._clock.now()
        while played.lines and played.lines[0].at_s <= min(now_s, played.silent_s):
            line = played.lines.pop(0)
            played.journal.write(line.kind, **line.body)
            if line.twice:
                _deliver_again(played.attempt)
        if played.lines and now_s < played.silent_s:
            return True
        played.journal.close()
        del self._live[played.attempt.folder]
        return False


def _deliver_again(attempt: Attempt) -> None:
    """Repeat the last line of the journal, as a transport does that delivers at least once."""
    with (attempt.path / JOURNAL_FOLDER / f"{WRITER}.jsonl").open("rb+") as file:
        file.write(file.read().splitlines(keepends=True)[-1])
