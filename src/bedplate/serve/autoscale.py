"""How many replicas an endpoint needs: one pure function of what was seen and of time, for the supervisor and for a simulated clock.

Work sets the number: requests under way, those that wait included, over what one replica is to have at a time; that is what Little's law
(L = lambda W) makes of arrivals and latency. Accelerator or CPU use plays no part: a batching server is busy at any load. Growing is at
once; shrinking waits until nothing within the settling time wanted more, as Kubernetes' HorizontalPodAutoscaler has it
(`stabilizationWindowSeconds`), so that the number does not swing.
Does not know: processes, requests, or the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from bedplate.core.spec import Scale

TOLERANCE = 0.1  # load that is as little above the target asks for nothing, as of the HorizontalPodAutoscaler
SLOW_GROWTH = 2.0  # by how much too slow answers may multiply the replicas at once


@dataclass(frozen=True)
class Load:
    """What was seen of an endpoint: requests under way (mean of the last window, those that wait included), of which none may be; the
    latency of the slowest percent (None: nothing was answered); when the last request came (None: never); replicas that answer now.
    """

    in_flight: float
    p99_s: float | None
    asked_at_s: float | None
    replicas: int


@dataclass(frozen=True)
class Wanted:
    """How many replicas there are to be, and why. `past` is to be given to the next call."""

    replicas: int
    why: str
    past: tuple[tuple[float, int], ...] = ()


def wanted(scale: Scale, load: Load, past: tuple[tuple[float, int], ...], now_s: float) -> Wanted:
    """How many replicas `scale` asks for under `load` at `now_s` (seconds since the epoch). `past` is that of the last call, or empty."""
    count, why = _needed(scale, load, now_s)
    least, most = _bounds(scale, now_s)
    if count < least:
        count, why = least, "the least that is declared" if least == scale.min else "warm for what is to come"
    elif count > most:
        count, why = most, f"{why}; no more than max"
    kept = tuple(one for one in past if now_s - one[0] < scale.settle_s)
    before = max((number for _, number in kept), default=0)
    now = (*(one for one in kept if one[1] > count), (now_s, count))  # what is less than a newer one never sets the number again
    if before > count:
        held = min(before, most)
        return Wanted(held, f"{count} would do ({why}); {held} were wanted within {scale.settle}", now)
    return Wanted(count, why, now)


def _needed(scale: Scale, load: Load, now_s: float) -> tuple[int, str]:
    target = scale.target
    asked = load.asked_at_s is not None and now_s - load.asked_at_s < scale.idle_s
    if load.in_flight <= 0 and not asked:
        return 0, f"nothing was asked for {scale.idle}"
    share = load.in_flight / target.in_flight
    count = max(1, math.ceil(share - TOLERANCE * min(1.0, share)))
    why = f"{load.in_flight:.3g} requests under way, {target.in_flight:g} to a replica"
    if target.p99_s is not None and load.p99_s is not None and load.p99_s > target.p99_s and load.in_flight >= load.replicas > 0:
        grown = math.ceil(load.replicas * min(SLOW_GROWTH, load.p99_s / target.p99_s))
        if grown > count:
            return grown, f"the slowest percent takes {load.p99_s:.3g} s, more than {target.p99}"
    return count, why


def _bounds(scale: Scale, now_s: float) -> tuple[int, int]:
    now = datetime.fromtimestamp(now_s, tz=UTC)
    return max((scale.min, *(warm.replicas for warm in scale.warm if warm.holds(now)))), scale.max
