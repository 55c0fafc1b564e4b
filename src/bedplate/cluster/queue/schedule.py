"""One scheduling pass: `(state, now_s) -> decisions`, one for every job that waits. Pure.

Jobs come in the order of their level (priority, one more for each `AGING_S` waited and one when a deadline presses), then of their
project's decayed use, then of submission. A gang starts whole or not at all. The first that finds no place reserves devices from the time
they are free by the estimates, and a later one goes ahead only outside them or if it ends before (EASY backfill, Lifka, "The ANL/IBM SP
scheduling system", JSSPP'95). A project may borrow up to its ceiling; one that stays within its guarantee takes devices back from those
that borrow, and a job takes them from jobs of its own project with less priority. Neither can be returned in kind, so there is no cycle.
Of those that may be stopped, who loses least work goes first, then who is on fewer nodes, and none that the job can do without.
Does not know: how long jobs really take; estimates come with them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from copy import copy
from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from bedplate.cluster.queue.decision import Decision, Facts, Place, Victim, replayed
from bedplate.cluster.queue.room import Room
from bedplate.cluster.queue.state import UNKNOWN_S, WHOLE, Job, Project, Running, State

AGING_S: Final = 6 * 3600.0  # each such wait counts as one priority more
PRESSING_S: Final = 3600.0  # a deadline presses when less than this is left to begin in
MOST_TRIED: Final = 8  # jobs in one pass for which victims are looked for; the others have their turn in the next


def scheduled(state: State, now_s: float) -> list[Decision]:
    """A decision for each job that waits, in the order in which they were considered."""
    return Pass(state, now_s).decisions


def level(job: Job, now_s: float) -> int:
    """Priority with aging and deadline."""
    pressing = job.deadline_s is not None and job.length_s is not None and job.deadline_s - job.length_s - now_s <= PRESSING_S
    return math.floor(job.priority + max(0.0, now_s - job.submitted_s) / AGING_S) + pressing


def _ordered(state: State, now_s: float) -> list[Job]:
    shares = {project.name: project.share for project in state.projects}
    jobs = state.waiting
    count = len(jobs)
    levels = np.fromiter((level(job, now_s) for job in jobs), np.int64, count)
    share = np.fromiter((shares[job.project] for job in jobs), np.float64, count)
    submitted = np.fromiter((job.submitted_s for job in jobs), np.float64, count)
    return [jobs[each] for each in np.lexsort((submitted, share, -levels)).tolist()]


class Pass:
    """What is free and held as the pass goes on; free only shrinks, so what did not fit once is not tried again.

    `decisions` are those of `scheduled`; `would` asks, after them, about one job more.
    """

    def __init__(self, state: State, now_s: float) -> None:
        """Make all decisions."""
        self._now_s = now_s
        self._projects = {project.name: project for project in state.projects}
        self._running = {each.job.name: each for each in state.running}
        self._room = Room([[WHOLE] * devices for devices in state.nodes])
        self._held: defaultdict[str, int] = defaultdict(int)
        for each in state.running:
            self._room.take(each.places, each.job.milli)
            self._held[each.job.project] += each.job.asked_milli
        self._lowest: dict[str, int] = {}  # priority among a project's running jobs
        for each in state.running:
            self._lowest[each.job.project] = min(each.job.priority, self._lowest.get(each.job.project, each.job.priority))
        self._clear = self._room  # without what is reserved
        self._head: tuple[str, float] | None = None
        self._head_job: Job
        self._quota: dict[str, tuple[str, float]] = {}
        self._ends: list[tuple[float, str, int, tuple[Place, ...], int]] = [
            (each.ends_s(now_s), each.job.project, each.job.asked_milli, each.places, each.job.milli) for each in state.running
        ]
        self._full: set[tuple[int, int]] = set()
        self._alike: dict[tuple[str, int, int, int], Decision] = {}
        self._tried = 0
        self._reserved: set[tuple[int, int]] = set()
        self._slots: dict[int, int] = {}
        self._nodes = state.nodes
        self.jobs = _ordered(state, now_s)
        self.decisions = [self._decide(job) for job in self.jobs]
        waits = [job.asked_milli if _may_run_later(each) else 0 for job, each in zip(self.jobs, self.decisions, strict=True)]
        self.ahead_milli = list(accumulate(waits))  # of the jobs that wait up to each, itself included
        self.numbers = {job.name: number for number, job in enumerate(self.jobs)}

    def would_fit(self, job: Job, project: Project) -> bool:
        """Whether a job that were like this, in a project like this, would start as things are after the pass, and stop nobody."""
        return self._asked(job, project, MOST_TRIED).verdict.kind == "start"

    def would_stop(self, job: Job) -> tuple[str, ...]:
        """Who would be stopped for a job that were like this; nobody where it would not start, or needs no such thing."""
        return self._asked(job, self._projects[job.project], 0).verdict.victims

    @property
    def held_milli(self) -> int:
        """What runs, with what was started."""
        return sum(self._held.values())

    def lowest(self, project: str) -> int | None:
        """The least priority among its running jobs."""
        return self._lowest.get(project)

    def _asked(self, job: Job, project: Project, tried: int) -> Decision:
        other = copy(self)
        other._tried, other._full = tried, set()
        other._projects = {**self._projects, job.project: project}
        if self._head is not None and self._head[0] == job.name:
            other._head, other._clear, other._reserved = None, self._room, set()
        other._quota = {name: quota for name, quota in self._quota.items() if quota[0] != job.name}
        return replayed(job.name, other._facts_now(job))

    def _decide(self, job: Job) -> Decision:
        """Gather the facts, decide by them, and take what was decided."""
        key = (job.project, job.workers, job.milli, job.priority)
        if (job.workers, job.milli) in self._full and key in self._alike:
            return Decision(job.name, *self._alike[key][1:])
        decision = replayed(job.name, self._facts(job))
        kind = decision.verdict.kind
        if kind == "start":
            self._start(job, decision.verdict.places)
        elif kind == "preempt":
            self._preempt(job, decision.verdict.places, decision.verdict.victims)
        elif kind == "reserve":
            assert decision.verdict.at_s is not None
            self._head = (job.name, decision.verdict.at_s)
            self._head_job = job
            self._clear = self._room.copy()
            self._clear.take(decision.verdict.places, job.milli)
            self._reserved = _devices(decision.verdict.places)
        elif decision.verdict.reason == "ceiling" and job.project not in self._quota:
            self._quota[job.project] = (job.name, self._under_ceiling_s(job))
        elif decision.verdict.reason == "devices":
            self._alike[key] = decision
        return decision

    def _facts(self, job: Job) -> Facts:
        facts = self._facts_now(job)
        if self._head or facts.places or facts.freed or replayed(job.name, facts).verdict.reason != "devices":
            return facts
        later, later_s = self._later(job)
        return replace(facts, later=later, later_s=later_s)

    def _facts_now(self, job: Job) -> Facts:
        """Without when it gets places, if it gets none now."""
        project = self._projects[job.project]
        held, asked = self._held[job.project], job.asked_milli
        quota_head, quota_s = self._quota.get(job.project, ("", None))
        head, head_s = self._head or ("", None)
        facts = Facts(
            self._now_s, asked, job.length_s, held, project.guaranteed_milli, project.ceiling_milli, self._most_milli(job.milli),
            head=head, head_s=head_s, quota_head=quota_head, quota_s=quota_s,
        )  # fmt: skip
        if replayed(job.name, facts).verdict.reason in ("impossible", "project"):
            return facts
        if held + asked <= project.ceiling_milli:
            facts = self._placed(job, facts)
            if replayed(job.name, facts).verdict.kind == "start":
                return facts
        return self._freed(job, facts)

    def _most_milli(self, milli: int) -> int:
        """What workers of this size could hold of an empty cluster."""
        if milli not in self._slots:
            each = WHOLE // milli if milli < WHOLE else 1
            self._slots[milli] = milli * sum(devices // max(1, milli // WHOLE) * each for devices in self._nodes)
        return self._slots[milli]

    def _placed(self, job: Job, facts: Facts) -> Facts:
        """Free places: those outside the reservation where it may not touch that."""
        if (job.workers, job.milli) in self._full:
            return facts
        places = self._room.place(job.workers, job.milli)
        if not places:
            self._full.add((job.workers, job.milli))
            return facts
        self._room.give(places, job.milli)
        if self._head is None:
            return replace(facts, places=places)
        outside = self._clear.place(job.workers, job.milli)
        self._clear.give(outside, job.milli)
        return replace(facts, places=outside or places, clear=bool(outside) and not self._fills_ceiling(job, facts))

    def _fills_ceiling(self, job: Job, facts: Facts) -> bool:
        """Whether the head, of the same project, could come to its ceiling by this job."""
        head = self._head_job
        return head.project == job.project and facts.held_milli + facts.milli + head.asked_milli > facts.ceiling_milli

    def _start(self, job: Job, places: tuple[Place, ...]) -> None:
        self._room.take(places, job.milli)
        if self._clear is not self._room:
            self._clear.take(places, job.milli)
        self._held[job.project] += job.asked_milli
        until_s = self._now_s + (UNKNOWN_S if job.length_s is None else job.length_s)
        self._ends.append((until_s, job.project, job.asked_milli, places, job.milli))

    def _preempt(self, job: Job, places: tuple[Place, ...], victims: tuple[str, ...]) -> None:
        """What victims leave over is free in the next pass only."""
        for name in victims:
            victim = self._running.pop(name)
            self._held[victim.job.project] -= victim.job.asked_milli
            self._ends.remove((victim.ends_s(self._now_s), victim.job.project, victim.job.asked_milli, victim.places, victim.job.milli))
        self._start(job, places)

    def _under_ceiling_s(self, job: Job) -> float:
        """When its project has ended enough for it."""
        over = self._held[job.project] + job.asked_milli - self._projects[job.project].ceiling_milli
        for until_s, project, milli, *_ in sorted(self._ends):
            over -= milli * (project == job.project)
            if over <= 0:
                return until_s
        return math.inf

    def _later(self, job: Job) -> tuple[tuple[Place, ...], float | None]:
        """The places it gets first by the estimates, and when."""
        room = self._room.copy()
        for until_s, _, _, places, milli in sorted(self._ends):
            room.give(places, milli)
            found = room.place(job.workers, job.milli)
            if found:
                return found, until_s
        return (), None

    def _freed(self, job: Job, facts: Facts) -> Facts:
        """The victims that make room for it, if there are any it may take."""
        if self._tried >= MOST_TRIED or not self._may_stop(job, facts):
            return facts
        self._tried += 1
        candidates = self._candidates(job, facts)
        chosen, found = self._least(job, candidates, facts)
        if not found:
            return facts
        victims = tuple(Victim(each.job.name, each.job.asked_milli, each.lost_s(self._now_s)) for each in chosen)
        return replace(facts, victims=victims, freed=found)

    def _may_stop(self, job: Job, facts: Facts) -> bool:
        """Whether there may be candidates, without looking at each."""
        if self._lowest.get(job.project, job.priority) < job.priority:
            return True
        reclaims = facts.held_milli + facts.milli <= facts.guaranteed_milli
        return reclaims and any(self._held[name] > project.guaranteed_milli for name, project in self._projects.items())

    def _candidates(self, job: Job, facts: Facts) -> list[Running]:
        reclaims = facts.held_milli + facts.milli <= facts.guaranteed_milli
        over = {name for name, project in self._projects.items() if reclaims and self._held[name] > project.guaranteed_milli}
        over.discard(job.project)
        able = [
            each for each in self._running.values()
            if (each.job.project in over or (each.job.project == job.project and each.job.priority < job.priority))
            and not (self._reserved and self._reserved & _devices(each.places))
        ]  # fmt: skip
        return sorted(able, key=lambda each: (each.lost_s(self._now_s), len({place.node for place in each.places}), each.job.name))

    def _least(self, job: Job, candidates: list[Running], facts: Facts) -> tuple[list[Running], tuple[Place, ...]]:
        """Add victims, cheapest first, until it fits, then spare each, dearest first, that it can do without."""
        held, room = dict(self._held), self._clear.copy()
        chosen: list[Running] = []
        found: tuple[Place, ...] = ()
        for each in candidates:
            own = each.job.project == job.project
            if not own and held[each.job.project] <= self._projects[each.job.project].guaranteed_milli:
                continue
            held[each.job.project] -= each.job.asked_milli
            chosen.append(each)
            room.give(each.places, each.job.milli)
            found = self._within(job, room, held, facts)
            if found:
                break
        for each in reversed(chosen[:-1] if found else []):
            room.take(each.places, each.job.milli)
            held[each.job.project] += each.job.asked_milli
            fewer = self._within(job, room, held, facts)
            if fewer:
                chosen.remove(each)
                found = fewer
            else:
                room.give(each.places, each.job.milli)
                held[each.job.project] -= each.job.asked_milli
        return chosen, found

    def _within(self, job: Job, room: Room, held: dict[str, int], facts: Facts) -> tuple[Place, ...]:
        if held.get(job.project, 0) + facts.milli > facts.ceiling_milli:
            return ()
        found = room.place(job.workers, job.milli)
        room.give(found, job.milli)
        return found


def _may_run_later(decision: Decision) -> bool:
    return decision.verdict.kind in ("wait", "reserve") and decision.verdict.reason != "impossible"


def _devices(places: tuple[Place, ...]) -> set[tuple[int, int]]:
    return {(place.node, device) for place in places for device in place.devices}
