"""A line that is fair between callers: whoever asks much does not keep those waiting who ask little.

Self-clocked fair queueing (Golestani 1994, "A Self-Clocked Fair Queueing Scheme for Broadband Applications"): what is put in gets the tag
max(the tag of what was taken last, the caller's last tag) + its cost, and the least tag goes first. For one caller that is first in, first
out.
Does not know: what stands in line, or what a cost is counted in.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_FORGET = 1024


class FairLine(Generic[T]):
    """Not safe to use from several threads."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, float, T]] = []
        self._last: dict[str, float] = {}
        self._now = 0.0
        self._number = 0
        self._cost = 0.0

    @property
    def cost(self) -> float:
        """The cost of all that waits."""
        return self._cost

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order."""
        return (item for _, _, _, item in self._heap)

    def put(self, caller: str, item: T, cost: float) -> None:
        """Stand in line. `cost` is more than 0."""
        tag = max(self._now, self._last.get(caller, 0.0)) + cost
        if len(self._last) > _FORGET:
            self._last = {name: last for name, last in self._last.items() if last > self._now}
        self._last[caller] = tag
        self._number += 1
        self._cost += cost
        heapq.heappush(self._heap, (tag, self._number, cost, item))

    def next_cost(self) -> float:
        """The cost of who is next; 0 when nobody waits."""
        return self._heap[0][2] if self._heap else 0.0

    def take(self) -> T:
        """Who is next. Raises IndexError when nobody waits."""
        tag, _, cost, item = heapq.heappop(self._heap)
        self._now = tag
        self._cost -= cost
        return item
