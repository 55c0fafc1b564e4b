"""What is done when a generation of ranks is broken: pure decisions over what was seen.

Does not know: processes, sockets or memory; the host (`ranks`) performs what is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.run import POLICIES, crash_of
from bedplate.train.failures import EXCLUDE_NODE
from bedplate.train.seat import Assignment

Position = Mapping[str, int]
WITHOUT_A_DEATH = ("resize", "numeric", "out_of_memory")  # what all ranks tell of by themselves


@dataclass(frozen=True)
class Death:
    """A rank that is gone: how (`signal` is its name, or "exit 3"), after how many finished steps, and of what class of failure."""

    rank: int
    signal: str
    step: int
    failure: str
    message: str


@dataclass(frozen=True)
class Survivor:
    """A rank that waits for its assignment: what it met (a class of failure), and the position of the whole step that it holds, if any."""

    rank: int
    failure: str
    message: str
    position: Position | None
    where: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Broken:
    """A generation that is over: who died, who is left, what the attempt may still do."""

    generation: int
    world_size: int
    deaths: tuple[Death, ...]
    survivors: tuple[Survivor, ...]
    restarts_left: int
    least: int
    wanted: int
    batch_size: int | None = None
    crash: tuple[str, int] | None = None
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    skip: tuple[tuple[int, int, int], ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    furthest: int = 0


@dataclass(frozen=True)
class Again:
    """Go on: the assignments by the number that a rank had (survivors) and those of ranks that must be forked; what to journal."""

    moved: Mapping[int, Assignment]
    forked: tuple[Assignment, ...]
    failure: str
    message: str
    step: int
    lost_steps: int
    exact: bool


@dataclass(frozen=True)
class GiveUp:
    """End the attempt with this class of failure."""

    failure: str
    message: str


def decide(broken: Broken, drawn: Callable[[int, int], bool], *, in_memory: bool) -> Again | GiveUp:
    """What to do about a broken generation. `drawn(rank, step)`: whether the generators of that rank after that step are known.

    `in_memory`: whether a survivor's state is everybody's; without, no survivor keeps its process and all are forked.
    """
    failure, message = cause(broken)
    ends = _ends(broken, failure, message)
    if ends is not None:
        return ends
    world_size = fitting(broken.wanted, broken.least, broken.batch_size)
    if world_size is None:
        return GiveUp(
            "user_error", f"no number of workers from {broken.least} to {broken.wanted} divides the batch size {broken.batch_size}"
        )
    survivors = broken.survivors if in_memory else ()
    goes_back = failure in ("numeric", "out_of_memory")
    source = None if goes_back else chosen(survivors, range(broken.world_size), drawn)
    checkpoint = _checkpoint(broken, failure)
    position = dict(source.position) if source is not None and source.position is not None else None
    step = position["step"] if position is not None else int((checkpoint or {}).get("step", 0))
    seats = _seats([each.rank for each in survivors], world_size, source.rank if source is not None else None)
    spec = {**broken.spec, **({"accumulate": 2 * int(broken.spec.get("accumulate") or 1)} if failure == "out_of_memory" else {})}

    def assignment(number: int, before: int) -> Assignment:
        return Assignment(
            generation=broken.generation + 1,
            rank=number,
            world_size=world_size,
            source=None if source is None else seats[source.rank],
            position=position,
            checkpoint=checkpoint if source is None else None,
            drawn_by=before,
            spec=spec,
            skip=(*broken.skip, *_skipped(broken)),
        )

    taken = set(seats.values())
    return Again(
        moved={before: assignment(number, before) for before, number in seats.items()},
        forked=tuple(assignment(number, number) for number in range(world_size) if number not in taken),
        failure=failure,
        message=message,
        step=step,
        lost_steps=max(0, broken.furthest - step),
        exact=position is None or all(drawn(rank, step) for rank in range(broken.world_size)),
    )


def cause(broken: Broken) -> tuple[str, str]:
    """The class of what broke a generation, and in words: a death before what others felt of it, a reason of their own before an echo."""
    if broken.deaths:
        return broken.deaths[0].failure, broken.deaths[0].message
    own = [each for each in broken.survivors if each.failure in WITHOUT_A_DEATH]
    first = (own or list(broken.survivors))[0]
    if first.failure == "resize":
        return "resize", f"from {broken.world_size} to {broken.wanted} workers"
    return first.failure, first.message if own else f"the ranks lost touch: {first.message}"


def _ends(broken: Broken, failure: str, message: str) -> GiveUp | None:
    """Why not to go on, if so."""
    for death in broken.deaths:
        crash = crash_of({"signal": death.signal, "step": death.step})
        if crash is not None and crash == broken.crash:
            again = f"{message}: the second {crash[0]} at step {crash[1]} with no step finished in between"
            return GiveUp("crash_loop", again)
    if failure == "node_lost" or (failure in POLICIES and POLICIES[failure].act == "stop" and failure not in WITHOUT_A_DEATH):
        return GiveUp(failure, message)
    if failure != "resize" and broken.restarts_left <= 0:
        return GiveUp(failure, message)
    return None


def fitting(wanted: int, least: int, batch_size: int | None) -> int | None:
    """The most workers, from `least` to `wanted`, among which a batch divides; None when there is no such number."""
    return next((size for size in range(wanted, max(least, 1) - 1, -1) if not batch_size or batch_size % size == 0), None)


def chosen(survivors: Sequence[Survivor], ranks: Sequence[int], drawn: Callable[[int, int], bool]) -> Survivor | None:
    """Whose state all take: the furthest for which every rank's generators are known, so that the numbers trained are those of a run
    that nothing happened to; where no step is known so well, the furthest."""
    whole = sorted((each for each in survivors if each.position is not None), key=lambda each: (-_step(each), each.rank))
    exact = [each for each in whole if all(drawn(rank, _step(each)) for rank in ranks)]
    return next(iter(exact or whole), None)


def _step(survivor: Survivor) -> int:
    assert survivor.position is not None
    return survivor.position["step"]


def _seats(numbers: Sequence[int], world_size: int, source: int | None) -> dict[int, int]:
    """The numbers that survivors get: their own where that is still one, else the free ones; the source gets one in any case."""
    seats = {number: number for number in numbers if number < world_size}
    free = [number for number in range(world_size) if number not in seats]
    moved = [number for number in numbers if number not in seats]
    if source in moved and not free:
        seats[source] = seats.pop(max(seats))
        return seats
    for number in sorted(moved, key=lambda number: number != source):
        if free:
            seats[number] = free.pop(0)
    return seats


def _skipped(broken: Broken) -> tuple[tuple[int, int, int], ...]:
    return tuple(dict.fromkeys(each.where for each in broken.survivors if each.failure == "numeric" and each.where is not None))


def _checkpoint(broken: Broken, failure: str) -> Mapping[str, Any] | None:
    """The checkpoint to go back to, newest first in the list: for a bad number as many back as was asked for."""
    back = max(1, int(broken.spec.get("rollback") or 1)) if failure == "numeric" else 1
    return broken.checkpoints[min(back, len(broken.checkpoints)) - 1] if broken.checkpoints else None


def class_of(failure: str, by_log: str | None) -> str:
    """The class of failure, with what the user's `on_log` made of the log."""
    if by_log is None:
        return failure
    return {EXCLUDE_NODE: "node_lost", "stop": "user_error", "restart": "worker_lost"}.get(by_log, by_log)


def limits_of(attempt: Attempt) -> tuple[int, int]:
    """The least and the most workers of an attempt."""
    least, most = attempt.spec.get("workers") or (attempt.world_size, attempt.world_size)
    return int(least), max(int(most), attempt.world_size)
