"""What the queue decides about one job, and the facts it decides by: `replayed` makes the decision again from these alone.

Does not know: the other jobs; what of them mattered stands in the facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["start", "preempt", "reserve", "wait"]


class Place(NamedTuple):
    """Where one worker goes: the number of its node, and the devices there."""

    node: int
    devices: tuple[int, ...]


class Victim(NamedTuple):
    """A running job that would be stopped: its devices in thousandths, and the work since its last checkpoint, in device seconds."""

    job: str
    milli: int
    lost_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision rests on. Devices are in thousandths (`milli`), times in seconds; None where something does not exist.

    `places` are free now for the whole gang; `clear` says that they lie outside what is reserved for `head` from `head_s` on, and leave
    it room below its project's ceiling. `quota_s` is when the project has room for `quota_head`, which waits for its ceiling. `freed` are
    the places once `victims` are stopped.
    `later` and `later_s` are the places that a job without any gets first by the present estimates, where it may reserve them.
    """

    now_s: float
    milli: int
    length_s: float | None
    held_milli: int
    guaranteed_milli: int
    ceiling_milli: int
    capacity_milli: int
    places: tuple[Place, ...] = ()
    clear: bool = True
    head: str = ""
    head_s: float | None = None
    quota_head: str = ""
    quota_s: float | None = None
    victims: tuple[Victim, ...] = ()
    freed: tuple[Place, ...] = ()
    later: tuple[Place, ...] = ()
    later_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done: `start` at `places`, `preempt` (stop `victims`, then start at `places`), `reserve` `places` from `at_s`, or `wait`.

    `reason` of a wait: `impossible` (never fits), `ceiling`, `project` (an earlier job of its project waits for the ceiling),
    `reservation` (it would delay the head), or `devices`.
    """

    kind: Kind
    reason: str = ""
    places: tuple[Place, ...] = ()
    victims: tuple[str, ...] = ()
    at_s: float | None = None


class Decision(NamedTuple):
    """What is done with a job, and why."""

    job: str
    verdict: Verdict
    why: Facts


def replayed(job: str, why: Facts) -> Decision:
    """The decision that these facts lead to. The pass itself decides by it."""
    return Decision(job, _verdict(why), why)


def ends_by(why: Facts, at_s: float) -> bool:
    """Whether the job would be done by then; one of unknown length would not."""
    return why.length_s is not None and why.now_s + why.length_s <= at_s


def _verdict(why: Facts) -> Verdict:
    if why.milli > why.ceiling_milli or why.milli > why.capacity_milli:
        return Verdict("wait", "impossible")
    if why.held_milli + why.milli > why.ceiling_milli and not why.freed:
        return Verdict("wait", "ceiling")
    if why.quota_s is not None and not ends_by(why, why.quota_s):
        return Verdict("wait", "project")
    if why.places and (why.head_s is None or why.clear or ends_by(why, why.head_s)):
        return Verdict("start", "", why.places)
    if why.freed:
        return Verdict("preempt", "", why.freed, tuple(victim.job for victim in why.victims))
    if why.later_s is not None:
        return Verdict("reserve", "", why.later, at_s=why.later_s)
    return Verdict("wait", "reservation" if why.places else "devices")
