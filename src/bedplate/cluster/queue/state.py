"""What the queue sees: projects with their quotas, nodes with their devices, jobs that wait and jobs that run.

Does not know: in what order jobs run (`schedule`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from bedplate.cluster.queue.decision import Place

WHOLE: Final = 1000  # thousandths of a device
HALF_LIFE_S: Final = 7 * 86_400.0  # after which use counts half
UNKNOWN_S: Final = 3600.0  # a job of unknown length is taken to last as long again as it did, and at least this


@dataclass(frozen=True, slots=True)
class Project:
    """Its quotas in thousandths of a device: `guaranteed_milli` it gets back from borrowers, `ceiling_milli` it never exceeds.

    `used_s` are device seconds it has had, decayed by `decayed` up to the moment of the pass.
    """

    name: str
    guaranteed_milli: int
    ceiling_milli: int
    used_s: float = 0.0

    @property
    def share(self) -> float:
        """Use for each guaranteed device; who has the least is served first."""
        return self.used_s / max(self.guaranteed_milli, 1) * WHOLE


@dataclass(frozen=True, slots=True)
class Job:
    """A gang of `workers`, each with `milli` thousandths of devices on one node: below 1000 a part of one, else whole ones.

    `length_s` is an estimate from past runs (None: there is none), `deadline_s` a time on the clock of `submitted_s`.
    """

    name: str
    project: str
    submitted_s: float
    workers: int = 1
    milli: int = WHOLE
    priority: int = 0
    length_s: float | None = None
    deadline_s: float | None = None

    @property
    def asked_milli(self) -> int:
        """Of all workers."""
        return self.workers * self.milli


@dataclass(frozen=True, slots=True)
class Running:
    """A job at its places, since `started_s`; `saved_s` is when its last checkpoint was taken."""

    job: Job
    places: tuple[Place, ...]
    started_s: float
    saved_s: float

    def ends_s(self, now_s: float) -> float:
        """By the estimate; once that has passed, or without one, it is taken to last as long again as it did."""
        length_s = self.job.length_s
        if length_s is not None and self.started_s + length_s > now_s:
            return self.started_s + length_s
        return now_s + max(now_s - self.started_s, UNKNOWN_S)

    def lost_s(self, now_s: float) -> float:
        """Device seconds of work that stopping it now would lose."""
        return max(0.0, now_s - max(self.saved_s, self.started_s)) * self.job.asked_milli / WHOLE


@dataclass(frozen=True, slots=True)
class State:
    """`nodes` are devices of each node. Guarantees together must not exceed these, or there is nothing to reclaim them from."""

    nodes: tuple[int, ...]
    projects: tuple[Project, ...]
    waiting: tuple[Job, ...] = ()
    running: tuple[Running, ...] = ()


def decayed(used_s: float, passed_s: float) -> float:
    """Use after so long, halved each `HALF_LIFE_S`."""
    return used_s * math.exp2(-passed_s / HALF_LIFE_S)
