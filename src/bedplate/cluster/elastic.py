"""Sharing devices among training jobs so that the mean job is done soon: how many each gets, and on which nodes. Pure.

Devices go one gain after the other to the job whose worth they raise most, each: the square root of its speedup (more devices help ever
less, and a device that speeds up two jobs is better than one that speeds up one), weighted by how soon it may be done. A job that tells how
far it is counts by its remaining work, one that does not by what it had already (the more a job has had, the more it may still want:
least attained service, Gu et al., "Tiresias", NSDI'19). A gang is a job whose speedup is 0 below its size: it gets all or nothing. Moving
costs, so what a job holds counts for more than what it might hold; waiting counts too, so nobody waits forever.
The constants were chosen on the six public workloads of `bench/pollux.py`, where they are measured beside others.
Does not know: quotas, prices, or what a job is; speedups come from `cluster.speedup`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SOON: Final = 0.6  # exponent of remaining work
BLIND: Final = 0.15  # exponent of attained service, where a job does not tell how far it is
LEAST_LEFT_S: Final = 120.0  # remaining work below this is not told apart, in seconds of one device
LEAST_HAD_S: Final = 16 * 3600.0  # nor is attained service below this, so that young jobs do not push one another out
MOVED: Final = 0.85  # of its worth is left to a job that is started or moved
PATIENCE_S: Final = 4 * 3600.0  # each such wait doubles the weight: even a gang a thousand times as long as all others runs within two days
MOST_DOUBLINGS: Final = 64  # so that it stays a number


@dataclass(frozen=True)
class Claim:
    """A job that wants devices. `speedup` is float64 [most + 1], over one device; 0 where it cannot run. `held` devices are its now.

    `remaining_s` (None: it does not tell) and `attained_s` are seconds of one device, `waited_s` seconds without any.
    """

    name: str
    speedup: Floats
    held: int = 0
    attained_s: float = 0.0
    remaining_s: float | None = None
    waited_s: float = 0.0

    def weight(self) -> float:
        """How much a gain of this job counts."""
        overdue = math.exp2(min(self.waited_s / PATIENCE_S, MOST_DOUBLINGS))
        if self.remaining_s is None:
            return overdue * math.pow(max(self.attained_s, LEAST_HAD_S), -BLIND)
        return overdue * math.pow(max(self.remaining_s, LEAST_LEFT_S), -SOON)

    def worth(self) -> Floats:
        """What each number of devices is worth to it, float64 [most + 1]."""
        kept = np.where(np.arange(len(self.speedup)) == self.held, 1.0, MOVED)
        found: Floats = np.sqrt(self.speedup) * kept * self.weight()
        return found


def gang(size: int) -> Floats:
    """The speedup of a job that runs on `size` devices or not at all."""
    speedup = np.zeros(size + 1)
    speedup[size] = size
    return speedup


def share(claims: Sequence[Claim], devices: int) -> dict[str, int]:
    """How many devices each claim gets, those that get none left out. The order of claims decides between equals."""
    worth = [claim.worth() for claim in claims]
    got = [0] * len(claims)
    left = devices
    heap: list[tuple[float, int, int, int]] = []

    def offer(number: int) -> None:
        """The step up from what it has that raises its worth most for each device."""
        has = got[number]
        reach = worth[number][has + 1 : has + left + 1]
        if len(reach):
            gains = (reach - worth[number][has]) / np.arange(1, len(reach) + 1)
            best = int(gains.argmax())
            if gains[best] > 0:
                heapq.heappush(heap, (-float(gains[best]), number, has, has + best + 1))

    for number in range(len(claims)):
        offer(number)
    while heap and left:
        _, number, has, wanted = heapq.heappop(heap)
        if wanted - has <= left:
            left -= wanted - has
            got[number] = wanted
        offer(number)
    return {claim.name: count for claim, count in zip(claims, got, strict=True) if count}


def assign(counts: Mapping[str, int], held: Mapping[str, Mapping[int, int]], capacity: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """Which nodes: `{job: {node: devices}}` of nodes with `capacity` devices. Who keeps its number stays where it is.

    The others go largest first: onto the fullest node that holds one whole, else onto the emptiest nodes, so that it is on few, and the
    rest of it again onto the fullest node that holds that.
    Raises ValueError when there are more counts than devices.
    """
    if sum(counts.values()) > sum(capacity.values()):
        raise ValueError(f"{sum(counts.values())} devices asked of {sum(capacity.values())}")
    free = dict(capacity)
    found: dict[str, dict[int, int]] = {}
    for name, count in counts.items():
        at = held.get(name, {})
        if sum(at.values()) == count and all(free.get(node, 0) >= devices for node, devices in at.items()):
            found[name] = dict(at)
            for node, devices in at.items():
                free[node] -= devices
    for name in sorted((name for name in counts if name not in found), key=lambda name: -counts[name]):
        found[name] = _spread(counts[name], free)
        for node, devices in found[name].items():
            free[node] -= devices
    return found


def _spread(count: int, free: Mapping[int, int]) -> dict[int, int]:
    at: dict[int, int] = {}
    while rest := count - sum(at.values()):
        others = {node: devices for node, devices in free.items() if node not in at}
        whole = [node for node, devices in others.items() if devices >= rest]
        if whole:
            return {**at, min(whole, key=lambda node: (others[node], node)): rest}
        emptiest = min(others, key=lambda node: (-others[node], node))
        at[emptiest] = others[emptiest]
    return at
