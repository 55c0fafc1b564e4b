"""Stragglers: a rank that again and again needs longer for its own work than the others, which wait for it.

Does not know: how the times are taken (`timers`), or what slows a rank down.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

TIMES_OTHERS = 1.5
MEETINGS = 5  # in a row
LEAST_S = 0.02  # between two meetings; less is noise


@dataclass(frozen=True)
class Straggler:
    """A rank that is slow, and how many times the median of the others it needs."""

    rank: int
    times: float

    def message(self) -> str:
        """One line."""
        return f"rank {self.rank} needs {self.times:.1f} x as long for its own work as the other ranks, which wait for it"


class StragglerWatch:
    """What was seen at meetings; each rank is told of once."""

    def __init__(self) -> None:
        self._slowest = -1
        self._in_a_row = 0
        self._told: set[int] = set()

    def see(self, own_s: Sequence[float]) -> Straggler | None:
        """Take each rank's seconds of own work since the last meeting; the straggler, when there is a new one."""
        if len(own_s) < 2:
            return None
        slowest = max(range(len(own_s)), key=lambda rank: own_s[rank])
        others_s = statistics.median([*own_s[:slowest], *own_s[slowest + 1 :]])
        slow = own_s[slowest] > LEAST_S and own_s[slowest] > TIMES_OTHERS * others_s
        self._in_a_row = (self._in_a_row + 1 if slowest == self._slowest else 1) if slow else 0
        self._slowest = slowest
        if self._in_a_row < MEETINGS or slowest in self._told:
            return None
        self._told.add(slowest)
        return Straggler(slowest, own_s[slowest] / max(others_s, 1e-9))
