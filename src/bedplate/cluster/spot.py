"""Renting by deadline: at each moment spot, on demand, or nothing, so that the work is done in time and costs least. Pure.

Three rules over one safety net. `greedy` takes spot whenever there is any. `uniform_progress` keeps the work on the straight line from
start to deadline (Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI'24). `planned` is ours: spot comes
and goes at rates that were measured, so the cheapest choice for every amount of work and time left follows by dynamic programming
(Bellman) over a two-state chain. The safety net rents on demand to the end once only just enough time is left, whatever a rule says.
Does not know: prices in money, several regions (`cluster.place`), or how an instance is started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Choice = Literal["nothing", "spot", "on_demand"]
Floats = npt.NDArray[np.float64]

CHOICES: tuple[Choice, ...] = ("nothing", "spot", "on_demand")
NOTHING, SPOT, ON_DEMAND = range(3)
LATE_PRICE = 6.0  # of a second of work that is not done by the deadline, in seconds on demand: late is worse than dear
PRIOR_S, PRIOR_TIMES = 3600.0, 3  # before anything is measured, spot comes and goes by the hour, as if seen three times


@dataclass(frozen=True)
class DeadlineJob:
    """Work of `work_s` seconds of computing to be done within `deadline_s` of its start; each change of instance costs `changeover_s`."""

    work_s: float
    deadline_s: float
    changeover_s: float


@dataclass(frozen=True)
class Standing:
    """Where a job stands: time since its start, work done, what it runs on now, and whether a spot instance can be had now."""

    elapsed_s: float
    done_s: float
    on: Choice
    spot_available: bool


@dataclass(frozen=True)
class SpotRates:
    """How long spot stays once it is there, and stays away once it is gone: means in seconds."""

    there_s: float
    away_s: float


@dataclass(frozen=True)
class Rented:
    """What a job rented until it was done, seconds of each kind; `finished_s` is infinite when it was not done by its deadline."""

    spot_s: float
    on_demand_s: float
    changeovers: int
    finished_s: float

    def cost(self, spot_price: float) -> float:
        """The cost in seconds on demand, a second of spot at `spot_price` of one."""
        return self.spot_s * spot_price + self.on_demand_s


Rule = Callable[[DeadlineJob, Standing], Choice]


def must_hurry(job: DeadlineJob, at: Standing, tick_s: float) -> bool:
    """The safety net: whether on demand from now on only just meets the deadline, a lost changeover and a tick of waiting included."""
    left_s = job.deadline_s - at.elapsed_s
    return left_s <= job.work_s - at.done_s + 2 * job.changeover_s + tick_s


def greedy(job: DeadlineJob, at: Standing) -> Choice:  # noqa: ARG001 - the form of a rule
    """Spot whenever there is any, nothing otherwise."""
    return "spot" if at.spot_available else "nothing"


def uniform_progress(job: DeadlineJob, at: Standing) -> Choice:
    """Spot when there is any; without, on demand while behind the line. On demand is left when two changeovers ahead of it."""
    rate = job.work_s / job.deadline_s
    ahead_s = at.done_s - rate * at.elapsed_s
    if at.on == "on_demand":
        if ahead_s < 2 * job.changeover_s * rate:
            return "on_demand"
        return "spot" if at.spot_available else "nothing"
    if at.spot_available:
        return "spot"
    return "on_demand" if ahead_s < 0 else "nothing"


def spot_rates(history: Sequence[bool], tick_s: float) -> SpotRates:
    """The rates over a history of availability, one value a tick; a short one is mixed with a prior of an hour each."""
    seen = np.asarray(history, bool)
    changes = np.diff(seen.astype(np.int8))
    went, came = int((changes < 0).sum()), int((changes > 0).sum())
    there_s, away_s = float(seen.sum()) * tick_s, float((~seen).sum()) * tick_s
    prior_s = PRIOR_S * PRIOR_TIMES
    return SpotRates((there_s + prior_s) / (went + PRIOR_TIMES), (away_s + prior_s) / (came + PRIOR_TIMES))


def planned(job: DeadlineJob, spot_price: float, rates: SpotRates, tick_s: float, grid: int = 400) -> Rule:
    """The rule of least expected cost when spot comes and goes at `rates`, looked up in a table of (time left, work left) made here.

    Work is on a grid of `grid` parts, time in ticks. 1,300 ticks take 0.15 s to plan.
    """
    table = _plan(job, spot_price, rates, tick_s, grid)
    most = len(table) - 1

    def rule(job: DeadlineJob, at: Standing) -> Choice:
        spare_s = job.deadline_s - at.elapsed_s - 2 * job.changeover_s  # what the safety net leaves
        left = min(most, max(1, int(spare_s // tick_s)))
        work = min(grid, max(0, round((job.work_s - at.done_s) / job.work_s * grid)))
        return CHOICES[int(table[left, CHOICES.index(at.on), int(at.spot_available), work])]

    return rule


def _plan(job: DeadlineJob, spot_price: float, rates: SpotRates, tick_s: float, grid: int) -> npt.NDArray[Any]:
    """The best choice by ticks left, what it runs on, whether spot is there, and work left: int8 [ticks + 1, 3, 2, grid + 1]."""
    work = np.linspace(0.0, job.work_s, grid + 1)
    ticks = max(1, int(job.deadline_s // tick_s))
    goes, comes = 1 - np.exp(-tick_s / rates.there_s), 1 - np.exp(-tick_s / rates.away_s)
    cost: Floats = np.tile(LATE_PRICE * work, (3, 2, 1))  # with no tick left
    best = np.zeros((ticks + 1, 3, 2, grid + 1), np.int8)
    for left in range(1, ticks + 1):
        expected = np.empty_like(cost)  # by what it ran on in this tick, and whether spot was there then
        expected[:, 0] = (1 - comes) * cost[:, 0] + comes * cost[:, 1]
        expected[:, 1] = goes * cost[:, 0] + (1 - goes) * cost[:, 1]
        expected[SPOT, 1] = goes * cost[NOTHING, 0] + (1 - goes) * cost[SPOT, 1]  # an instance that goes is lost
        for there in (0, 1):
            stay = [expected[NOTHING, there], *(_after(expected[on, there], work, tick_s, price) for on, price in _priced(spot_price))]
            change = [stay[0], *(_after(expected[on, there], work, tick_s, price, job.changeover_s) for on, price in _priced(spot_price))]
            for on in range(3):
                options = np.stack([stay[0], stay[1] if on == SPOT else change[1], stay[2] if on == ON_DEMAND else change[2]])
                if not there:
                    options[SPOT] = np.inf
                best[left, on, there] = options.argmin(axis=0)
                cost[on, there] = options.min(axis=0)
        cost[:, :, 0] = 0.0
    return best


def _priced(spot_price: float) -> tuple[tuple[int, float], ...]:
    return (SPOT, spot_price), (ON_DEMAND, 1.0)


def _after(expected: Floats, work: Floats, tick_s: float, price: float, changeover_s: float = 0.0) -> Floats:
    """The cost of renting for a tick and going on from there, by work left; the changeover takes its time from the work."""
    rented = price * np.minimum(tick_s, work + changeover_s)
    after: Floats = np.interp(np.maximum(work - tick_s + changeover_s, 0.0), work, expected)
    return rented + after


def rent(job: DeadlineJob, available: Sequence[bool], tick_s: float, rule: Rule) -> Rented:
    """Play a job over a trace of spot availability, one value a tick of `tick_s`. A spot instance that goes is noticed at its tick."""
    done_s = spot_s = on_demand_s = changing_s = 0.0
    changeovers, hurrying = 0, False
    on: Choice = "nothing"
    for tick, spot_available in enumerate(available):
        elapsed_s = tick * tick_s
        if elapsed_s >= job.deadline_s:
            break
        on = "nothing" if on == "spot" and not spot_available else on
        at = Standing(elapsed_s, done_s, on, spot_available)
        hurrying = hurrying or (on != "spot" and must_hurry(job, at, tick_s))
        choice = "on_demand" if hurrying else rule(job, at)
        if choice not in (on, "nothing"):
            changing_s, changeovers = job.changeover_s, changeovers + 1
        on = choice
        if on == "nothing":
            continue
        used_s = min(tick_s, changing_s + job.work_s - done_s)
        worked_s = max(0.0, used_s - changing_s)
        changing_s, done_s = max(0.0, changing_s - used_s), done_s + worked_s
        spot_s, on_demand_s = spot_s + used_s * (on == "spot"), on_demand_s + used_s * (on == "on_demand")
        if done_s >= job.work_s - 1e-6:
            finished_s = elapsed_s + used_s
            return Rented(spot_s, on_demand_s, changeovers, finished_s if finished_s <= job.deadline_s else float("inf"))
    return Rented(spot_s, on_demand_s, changeovers, float("inf"))
