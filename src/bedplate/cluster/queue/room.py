"""Free devices, kept so that the best fit for a worker is found without looking at every node.

A part of a device goes onto the device with least left that holds it, whole devices onto the node with fewest whole ones that holds them.
Does not know: who asks, and whether it may.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from bedplate.cluster.queue.decision import Place
from bedplate.cluster.queue.state import WHOLE


class Room:
    """`free` [node][device] in thousandths. Entries of the heaps may be out of date, and are looked at again when they come up."""

    def __init__(self, free: Sequence[Sequence[int]]) -> None:
        self.free = [list(devices) for devices in free]
        self._whole = [sum(left == WHOLE for left in devices) for devices in self.free]
        most = max((len(devices) for devices in self.free), default=0)
        self._nodes: list[list[int]] = [[] for _ in range(most + 1)]
        self._count = [0] * (most + 1)
        self._parts: dict[int, list[tuple[int, int]]] = {}
        for node, whole in enumerate(self._whole):
            self._nodes[whole].append(node)
            self._count[whole] += 1
            for device, left in enumerate(self.free[node]):
                if 0 < left < WHOLE:
                    self._parts.setdefault(left, []).append((node, device))
        for heap in self._parts.values():
            heapq.heapify(heap)

    def copy(self) -> Room:
        """One that changes apart."""
        other = Room(())
        other.free = [devices.copy() for devices in self.free]
        other._whole, other._count = self._whole.copy(), self._count.copy()
        other._nodes = [heap.copy() for heap in self._nodes]
        other._parts = {left: heap.copy() for left, heap in self._parts.items()}
        return other

    def place(self, workers: int, milli: int) -> tuple[Place, ...]:
        """Take places for all workers; empty, and nothing taken, where they do not all fit."""
        if milli >= WHOLE and sum(count * (whole // (milli // WHOLE)) for whole, count in enumerate(self._count)) < workers:
            return ()
        places: list[Place] = []
        for _ in range(workers):
            place = self._fitting(milli)
            if place is None:
                self.give(places, milli)
                return ()
            self._change(place, -min(milli, WHOLE))
            places.append(place)
        return tuple(places)

    def take(self, places: Iterable[Place], milli: int) -> None:
        """Take these places; what of them is not free stays so."""
        for place in places:
            self._change(place, -min(milli, WHOLE))

    def give(self, places: Iterable[Place], milli: int) -> None:
        """Give them back."""
        for place in places:
            self._change(place, min(milli, WHOLE))

    def _fitting(self, milli: int) -> Place | None:
        if milli < WHOLE:
            for left in sorted(left for left in self._parts if left >= milli):
                heap = self._parts[left]
                while heap and self.free[heap[0][0]][heap[0][1]] != left:
                    heapq.heappop(heap)
                if heap:
                    return Place(heap[0][0], (heap[0][1],))
        wanted = max(1, milli // WHOLE)
        for whole in range(wanted, len(self._nodes)):
            nodes = self._nodes[whole]
            while nodes and self._whole[nodes[0]] != whole:
                heapq.heappop(nodes)
            if nodes:
                devices = [device for device, left in enumerate(self.free[nodes[0]]) if left == WHOLE]
                return Place(nodes[0], tuple(devices[:wanted]))
        return None

    def _change(self, place: Place, by: int) -> None:
        node, devices = place
        before = self._whole[node]
        for device in devices:
            old = self.free[node][device]
            left = min(WHOLE, max(0, old + by))
            self.free[node][device] = left
            self._whole[node] += (left == WHOLE) - (old == WHOLE)
            if 0 < left < WHOLE:
                heapq.heappush(self._parts.setdefault(left, []), (node, device))
        after = self._whole[node]
        if after != before:
            self._count[before] -= 1
            self._count[after] += 1
            heapq.heappush(self._nodes[after], node)
