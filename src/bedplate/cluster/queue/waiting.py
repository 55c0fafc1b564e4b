"""Why a job waits: for what, who holds it, when it may start by the present estimates, and what change would start it now.

Each change is one that the pass itself was asked about, not a guess. The time of the first job that waits for devices is that of its
reservation; that of others is when enough ends for all that come before them, an estimate that knows neither places nor arrivals.
Does not know: how a person asks, or how numbers are shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from bedplate.cluster.queue.decision import Decision, Facts
from bedplate.cluster.queue.schedule import Pass
from bedplate.cluster.queue.state import WHOLE, Job, Project, State
from bedplate.core.errors import NotFound, nearest

MOST_HOLDERS: Final = 5
MOST_PRIORITY: Final = 3  # so much more is tried


@dataclass(frozen=True, slots=True)
class Holder:
    """A running job that has what is waited for: its devices in thousandths, and when it ends by its estimate."""

    job: str
    project: str
    milli: int
    until_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """What would start the job now: `workers`, `length_s` (an estimate of at most so much), `priority` or `ceiling_milli`, with its value.

    `stops` are the jobs that would be stopped for it.
    """

    what: str
    value: float
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a job waits. `behind` is the waiting job that it may not delay.

    `starts_s` is an estimate, None where nothing that runs leads to it.
    """

    decision: Decision
    behind: str
    holders: tuple[Holder, ...]
    starts_s: float | None
    changes: tuple[Change, ...]


def explained(state: State, made: Pass, name: str) -> Waiting:
    """Why the job waits, after the pass over this state. Raises NotFound for one that did not wait."""
    if name not in made.numbers:
        raise NotFound("no such job waits", value=name, fix=nearest(name, made.numbers))
    number = made.numbers[name]
    decision, job = made.decisions[number], made.jobs[number]
    why = decision.why
    if decision.verdict.kind in ("start", "preempt"):
        return Waiting(decision, "", (), why.now_s, ())
    behind = {"reservation": why.head, "project": why.quota_head}.get(decision.verdict.reason, "")
    changes = tuple(_changes(made, job, why, next(each for each in state.projects if each.name == job.project)))
    return Waiting(decision, behind, _holders(state, decision, job), _starts_s(state, made, number), changes)


def _holders(state: State, decision: Decision, job: Job) -> tuple[Holder, ...]:
    """Who has the reserved devices, or the project's quota, or else who ends first; the first to end before the others."""
    verdict, now_s = decision.verdict, decision.why.now_s
    if verdict.reason == "impossible":
        return ()
    reserved = {(place.node, device) for place in verdict.places for device in place.devices}
    holding = [
        each for each in state.running
        if (not reserved or any((place.node, device) in reserved for place in each.places for device in place.devices))
        and (verdict.reason not in ("ceiling", "project") or each.job.project == job.project)
    ]  # fmt: skip
    holding.sort(key=lambda each: each.ends_s(now_s))
    return tuple(Holder(each.job.name, each.job.project, each.job.asked_milli, each.ends_s(now_s)) for each in holding[:MOST_HOLDERS])


def _starts_s(state: State, made: Pass, number: int) -> float | None:
    decision = made.decisions[number]
    if decision.verdict.reason == "impossible":
        return None
    if decision.verdict.at_s is not None:
        return decision.verdict.at_s
    need = made.held_milli + made.ahead_milli[number] - WHOLE * sum(state.nodes)
    if need <= 0:
        return decision.why.quota_s or decision.why.head_s
    for until_s, milli in sorted((each.ends_s(decision.why.now_s), each.job.asked_milli) for each in state.running):
        need -= milli
        if need <= 0:
            return until_s
    return None


def _changes(made: Pass, job: Job, why: Facts, project: Project) -> Iterator[Change]:
    """The least of each kind that would do."""
    fewest = bisect_left(range(job.workers), True, key=lambda less: made.would_fit(replace(job, workers=job.workers - less), project))
    if 0 < fewest < job.workers:
        yield Change("workers", job.workers - fewest)
    for at_s in (why.quota_s, why.head_s):
        if at_s is not None and at_s > why.now_s and made.would_fit(replace(job, length_s=at_s - why.now_s), project):
            yield Change("length_s", at_s - why.now_s)
            break
    ceiling = why.held_milli + job.asked_milli
    if ceiling > project.ceiling_milli and made.would_fit(job, replace(project, ceiling_milli=ceiling)):
        yield Change("ceiling_milli", ceiling)
    lowest = made.lowest(job.project)
    for priority in range(max(job.priority, lowest) + 1, job.priority + MOST_PRIORITY + 1) if lowest is not None else ():
        stops = made.would_stop(replace(job, priority=priority))
        if stops:
            yield Change("priority", priority, stops)
            break
