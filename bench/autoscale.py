"""Replicas by our rule and by Ray Serve's documented one, over two simulated hours of a sinusoid with bursts, on one simulated clock.

The endpoint's own `serve.autoscale.wanted` decides, every 0.5 s as the router asks it. Ray Serve's rule is written down from its
documentation ("Advanced Ray Serve Autoscaling"), with its default delays: the mean of ongoing requests over `look_back_period_s` (30 s),
over `target_ongoing_requests`, rounded up, looked at every 0.1 s, and acted upon when it asked for more for `upscale_delay_s` (30 s) or for
less for `downscale_delay_s` (600 s). Both have the same target and bounds, and the same replicas: 8 requests at a time, 160 ms each, 3 s to
start. A request attains its objective when waiting and answering take at most 400 ms. Fixed fleets are those of the peak and of the mean.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import deque
from collections.abc import Callable, Sequence

from bedplate.core.spec import Scale
from bedplate.serve.autoscale import Load, wanted
from bench.table import Row

SEEDS = (1, 2, 3)
LENGTH_S = 7200.0
DECIDE_S = 0.5
WINDOW_S = 5.0
START_S = 3.0
SERVICE_S = 0.16
SLOTS = 8
SLO_S = 0.4
MAX = 12
TARGET = 4.0
Rule = Callable[[float, deque[tuple[float, int]], int], int]


def rows() -> list[Row]:
    """Attainment of the objective and replica-seconds, medians over seeds."""
    traces = [trace(seed) for seed in SEEDS]
    played = {name: [play(make(), one) for one in traces] for name, make in RULES.items()}
    attained = {name: statistics.median(one[0] for one in runs) for name, runs in played.items()}
    spent = {name: statistics.median(one[1] for one in runs) for name, runs in played.items()}
    spread = {name: f"{min(one[0] for one in runs):.4g} to {max(one[0] for one in runs):.4g}" for name, runs in played.items()}
    found = []
    for peer in ("Ray Serve's rule", "fixed, of the peak", "fixed, of the mean"):
        found.append(
            Row("answered within 400 ms", 100 * attained["ours"], "%", spread["ours"], 100 * attained[peer], peer, higher_is_better=True)
        )
        found.append(Row("replica-hours of 2 h", spent["ours"] / 3600, "h", "", spent[peer] / 3600, peer))
    return found


def trace(seed: int) -> list[float]:
    """Arrivals in seconds: Poisson, its rate a sinusoid of 20 minutes from 10 to 100 a second, ten bursts of 15 s of three times that."""
    random_of = random.Random(seed)
    bursts = [random_of.uniform(0, LENGTH_S) for _ in range(10)]
    arrivals, now_s, most = [], 0.0, 300.0
    while (now_s := now_s + random_of.expovariate(most)) < LENGTH_S:
        rate = 55 - 45 * math.cos(2 * math.pi * now_s / 1200)
        if any(0 <= now_s - burst < 15 for burst in bursts):
            rate = min(most, 3 * rate)
        if random_of.random() < rate / most:
            arrivals.append(now_s)
    return arrivals


def play(rule: Rule, arrivals: Sequence[float]) -> tuple[float, float]:
    """The share of requests within the objective, and replica-seconds, of one rule over one trace."""
    started = [-START_S, -START_S]  # when each replica was started, the oldest first
    ends: list[float] = []  # of requests being answered
    waiting: deque[float] = deque()
    levels: deque[tuple[float, int]] = deque()
    within, spent_s, decided_s = 0, 0.0, 0.0

    def begin(now_s: float) -> int:
        """Start answering what waits; how many of it come in time."""
        ready = sum(now_s - one >= START_S for one in started)
        good = 0
        while waiting and len(ends) < ready * SLOTS:
            came_s = waiting.popleft()
            heapq.heappush(ends, now_s + SERVICE_S)
            good += now_s + SERVICE_S - came_s <= SLO_S
        return good

    for came_s in arrivals:
        while decided_s <= came_s:
            while ends and ends[0] <= decided_s:
                within += begin(heapq.heappop(ends))
            within += begin(decided_s)
            levels.append((decided_s, len(ends) + len(waiting)))
            count = rule(decided_s, levels, sum(decided_s - one >= START_S for one in started))
            started = started[:count] + [decided_s] * (count - len(started))
            spent_s += count * DECIDE_S / 5
            decided_s += DECIDE_S / 5
        while ends and ends[0] <= came_s:
            within += begin(heapq.heappop(ends))
        waiting.append(came_s)
        within += begin(came_s)
    return within / len(arrivals), spent_s


def ours() -> Rule:
    """The endpoint's rule."""
    scale = Scale.model_validate({"min": 1, "max": MAX, "target": {"in_flight": TARGET}, "settle": "1m"})
    past: tuple[tuple[float, int], ...] = ()
    count, looked_s = 2, -1.0

    def decide(now_s: float, levels: deque[tuple[float, int]], ready: int) -> int:
        nonlocal past, count, looked_s
        if now_s - looked_s >= DECIDE_S:
            looked_s = now_s
            found = wanted(scale, Load(_mean(levels, now_s - WINDOW_S), None, now_s, ready), past, now_s)
            past, count = found.past, found.replicas
        return count

    return decide


def ray() -> Rule:
    """Ray Serve's rule with its defaults."""
    count, more_s, fewer_s = 2, math.inf, math.inf

    def decide(now_s: float, levels: deque[tuple[float, int]], _ready: int) -> int:
        nonlocal count, more_s, fewer_s
        while levels and levels[0][0] < now_s - 30:
            levels.popleft()
        asked = max(1, min(MAX, math.ceil(_mean(levels, now_s - 30) / TARGET)))
        more_s = min(more_s, now_s) if asked > count else math.inf
        fewer_s = min(fewer_s, now_s) if asked < count else math.inf
        if now_s - more_s >= 30 or now_s - fewer_s >= 600:
            count, more_s, fewer_s = asked, math.inf, math.inf
        return count

    return decide


def fixed(count: int) -> Rule:
    """Always as many."""
    return lambda _now_s, _levels, _ready: count


def _mean(levels: deque[tuple[float, int]], since_s: float) -> float:
    seen = []
    for at_s, level in reversed(levels):
        if at_s < since_s:
            break
        seen.append(level)
    return statistics.fmean(seen) if seen else 0.0


RULES: dict[str, Callable[[], Rule]] = {
    "ours": ours,
    "Ray Serve's rule": ray,
    "fixed, of the peak": lambda: fixed(math.ceil(300 * SERVICE_S / TARGET)),
    "fixed, of the mean": lambda: fixed(math.ceil(60 * SERVICE_S / TARGET)),
}
