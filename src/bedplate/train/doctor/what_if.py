"""What would have been: the slowdown of a traced run against its ideal, and how much each worker and each stage accounts for.

After "Understanding Stragglers in Large Model Training" (Lin et al., OSDI'25). The ideal time of a kind of operation is the mean over all
workers and steps for compute, the median for communication, whose time is that of the transfer: from when the last party began it. The run
is played again from its graph of dependencies, with some operations as they were and the others ideal: S = T / T_ideal; S_w, with only
the operations of worker w as they were, is that worker's own slowdown. The gain of a worker is the other way round: all as it was, but
that worker ideal.

The graph: a worker's operations follow one another in the order in which they were seen to start; a forward needs that of the stage before,
a backward that of the stage after; data-parallel ranks meet at the end of each step, before the next begins. The paper approximates S_w by
the slowdowns of its pipeline rank and data rank; replicas touch only where steps end, so here each is exact.
Does not know: why a worker was slow, or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.errors import BedplateError
from bedplate.train.doctor.measured import Array, Indices
from bedplate.train.doctor.trace import BACKWARD, FORWARD, OTHER, RECEIVE, SEND, SYNC, Trace

COMPUTE = (FORWARD, BACKWARD, OTHER)


@dataclass(frozen=True)
class Blame:
    """What one worker or stage accounts for: its own slowdown S_w, the part of all that was lost, and what the run gains if it is ideal."""

    name: str
    slowdown: float
    share: float
    gain_s: float


@dataclass(frozen=True)
class WhatIf:
    """Seconds: `observed_s` from the first start to the last end of each step, `played_s` the same as the graph gives it, and the ideal.

    `slowdown` is played / ideal. Workers and stages are sorted by their slowdown.
    """

    observed_s: float
    played_s: float
    ideal_s: float
    steps: int
    workers: tuple[Blame, ...]
    stages: tuple[Blame, ...]
    parts: tuple[Blame, ...]

    @property
    def slowdown(self) -> float:
        """How many times longer than ideal."""
        return self.played_s / self.ideal_s if self.ideal_s > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        times = {name: getattr(self, name) for name in ("observed_s", "played_s", "ideal_s", "steps", "slowdown")}
        lists = {name: [vars(blame) for blame in getattr(self, name)] for name in ("workers", "stages", "parts")}
        return {**times, **lists}


@dataclass(frozen=True)
class _Group:
    """Pairs of a step and a replica whose operations are the same and in the same order: [instances, operations] in topological order.

    `before` is the operation before on the same worker, `needs` the one that another stage must have finished, -1 without; `slot` is the
    worker within the replica, `last` the last operation of each stage (the start for a stage that is not there).
    """

    step: Indices
    replica: Indices
    slot: Indices
    stage: Indices
    before: Indices
    needs: Indices
    times_s: Array
    ideal_s: Array
    delays_s: Array
    ideal_delay_s: Array
    workers: Indices
    last: Indices

    def finish_s(self, times_s: Array, delays_s: Array) -> Array:
        """When each instance has finished at each stage, from the start of the step: [instances, stages]."""
        count = times_s.shape[0]
        ends = np.zeros((self.slot.size + 1, count))  # the last row is the start: what needs nothing begins there
        for at, (before, needs) in enumerate(zip(self.before.tolist(), self.needs.tolist(), strict=True)):
            begin = ends[before] if needs < 0 else np.maximum(ends[before], ends[needs] + delays_s[:, at])
            ends[at] = begin + times_s[:, at]
        return np.asarray(ends[self.last].T)

    def mixed_s(self, as_was: npt.NDArray[np.bool_]) -> Array:
        """The same with the operations of `as_was` [operations] as they were and the others ideal."""
        times_s = np.where(as_was, self.times_s, self.ideal_s)
        return self.finish_s(times_s, np.where(as_was, self.delays_s, self.ideal_delay_s))


def what_if(trace: Trace) -> WhatIf:
    """Play a trace again. Raises BedplateError for one without a forward or backward, or whose operations wait for one another."""
    if not np.isin(trace.kind, (FORWARD, BACKWARD)).any():
        raise BedplateError("the step trace has no forward and no backward", value=", ".join(trace.names), fix="name the operations so")
    steps = int(trace.step.max()) + 1
    shape = (steps, int(trace.replica.max()) + 1, int(trace.stage.max()) + 1)
    groups = _groups(trace)
    sync = _syncs(trace, steps)
    was = _filled(shape, groups, [group.finish_s(group.times_s, group.delays_s) for group in groups])
    ideal = _filled(shape, groups, [group.mixed_s(np.zeros(group.slot.size, dtype=bool)) for group in groups])
    played_s, ideal_s = _total_s(was, sync.was), _total_s(ideal, sync.ideal)
    lost_s = played_s - ideal_s

    def blame(name: str, alone_s: float, without_s: float) -> Blame:
        return Blame(name, alone_s / ideal_s, (alone_s - ideal_s) / lost_s if lost_s > 1e-12 else 0.0, played_s - without_s)

    workers = _by_worker(trace, groups, was, ideal, sync, blame)
    stages = []
    for stage in np.unique(trace.stage):
        alone = _filled(shape, groups, [group.mixed_s(group.stage == stage) for group in groups])
        rest = _filled(shape, groups, [group.mixed_s(group.stage != stage) for group in groups])
        one = np.arange(shape[2]) == stage
        alone_s = _total_s(alone, np.where(one, sync.was, sync.ideal))
        stages.append(blame(str(stage), alone_s, _total_s(rest, np.where(one, sync.ideal, sync.was))))
    parts = [
        blame("compute", *_part(groups, shape, sync, compute=True)),
        blame("sends between stages", *_part(groups, shape, sync, compute=False)),
        blame("synchronization", _total_s(ideal, sync.was), _total_s(was, sync.ideal)),
    ]
    ordered = tuple(sorted(workers, key=lambda each: -each.slowdown)), tuple(sorted(stages, key=lambda each: -each.slowdown))
    return WhatIf(_observed_s(trace, steps), played_s, ideal_s, steps, *ordered, tuple(sorted(parts, key=lambda each: -each.slowdown)))


def _total_s(finishes: Array, sync_s: Array) -> float:
    """All steps: each ends when the slowest stage has met. `finishes` [steps, replicas, stages], `sync_s` [steps, stages]."""
    return float((finishes.max(axis=1) + sync_s).max(axis=1).sum())


def _by_worker(trace: Trace, groups: list[_Group], was: Array, ideal: Array, sync: _Sync, blame: Callable[..., Blame]) -> list[Blame]:
    """Every worker, exactly: only its own replica plays differently, all others are what they were or ideal."""
    steps, replicas, _ = was.shape
    two = np.sort(was, axis=1)[:, -2:]
    second = two[:, 0] if replicas > 1 else np.zeros_like(two[:, 0])
    slowest = was.argmax(axis=1)
    least = ideal.max(axis=1)
    alone, without = np.zeros(len(trace.workers)), np.zeros(len(trace.workers))
    seen = np.zeros((len(trace.workers), steps), dtype=bool)
    for group in groups:
        others = np.where(slowest[group.step] == group.replica[:, None], second[group.step], two[group.step, -1])
        for slot in np.unique(group.slot):
            only, fixed = group.mixed_s(group.slot == slot), group.mixed_s(group.slot != slot)
            worker = group.workers[:, slot]
            np.add.at(alone, worker, (np.maximum(only, least[group.step]) + sync.ideal[group.step]).max(axis=1))
            np.add.at(without, worker, (np.maximum(fixed, others) + sync.was[group.step]).max(axis=1))
            seen[worker, group.step] = True
    alone += ~seen @ (least + sync.ideal).max(axis=1)
    without += ~seen @ (two[:, -1] + sync.was).max(axis=1)
    return [blame(name, float(alone[number]), float(without[number])) for number, name in enumerate(trace.workers)]


def _part(groups: list[_Group], shape: tuple[int, int, int], sync: _Sync, *, compute: bool) -> tuple[float, float]:
    """The run with only compute (or only sends) as it was, and with only that ideal."""
    alone, rest = [], []
    for group in groups:
        plain = np.broadcast_to(group.ideal_delay_s, group.delays_s.shape)
        even = np.broadcast_to(group.ideal_s, group.times_s.shape)
        alone.append(group.finish_s(group.times_s, plain) if compute else group.finish_s(even, group.delays_s))
        rest.append(group.finish_s(even, group.delays_s) if compute else group.finish_s(group.times_s, plain))
    first, second = _filled(shape, groups, alone), _filled(shape, groups, rest)
    return _total_s(first, sync.ideal), _total_s(second, sync.was)


def _filled(shape: tuple[int, int, int], groups: list[_Group], finished: list[Array]) -> Array:
    """Finishes as [steps, replicas, stages]; 0 where a replica had nothing to do."""
    found = np.zeros(shape)
    for group, values in zip(groups, finished, strict=True):
        found[group.step, group.replica] = values
    return found


@dataclass(frozen=True)
class _Sync:
    """The synchronization of each stage that ends a step, [steps, stages]: as it was and ideal."""

    was: Array
    ideal: Array


def _syncs(trace: Trace, steps: int) -> _Sync:
    stages = int(trace.stage.max()) + 1
    mine = trace.kind == SYNC
    total = np.zeros((steps, stages))
    if not mine.any():
        return _Sync(total, total)
    keys = (trace.step[mine] * len(trace.names) + trace.name[mine]) * stages + trace.stage[mine]
    known, group = np.unique(keys, return_inverse=True)
    begun = np.full(len(known), -np.inf)
    ended = np.full(len(known), -np.inf)
    np.maximum.at(begun, group, trace.start_s[mine])
    np.maximum.at(ended, group, trace.end_s[mine])
    transfer_s = np.maximum(ended - begun, 0.0)  # what was before the last one began was waiting
    stage, rest = known % stages, known // stages
    name, step = rest % len(trace.names), rest // len(trace.names)
    usual = np.zeros(len(trace.names))
    for each in np.unique(name):
        usual[each] = np.median(transfer_s[name == each])
    ideal = np.zeros_like(total)
    np.add.at(total, (step, stage), transfer_s)
    np.add.at(ideal, (step, stage), usual[name])
    return _Sync(total, ideal)


def _groups(trace: Trace) -> list[_Group]:
    """Instances with the same operations in the same order, side by side."""
    rows = np.flatnonzero(np.isin(trace.kind, COMPUTE))
    replicas = int(trace.replica.max()) + 1
    instance = trace.step[rows] * replicas + trace.replica[rows]
    first = np.flatnonzero(np.r_[True, instance[1:] != instance[:-1]])
    counts = np.diff(np.r_[first, len(rows)])
    changes = np.r_[True, (trace.worker[rows][1:] != trace.worker[rows][:-1]) | (instance[1:] != instance[:-1])]
    slot = np.cumsum(changes) - 1
    slot = slot - np.repeat(slot[first], counts)
    random = np.random.default_rng(0).integers(1, 2**62, 5, dtype=np.int64)
    within = np.arange(len(rows)) - np.repeat(first, counts)
    code = slot * random[0] + trace.stage[rows] * random[1] + trace.name[rows] * random[2] + trace.micro_batch[rows] * random[3]
    signature = np.add.reduceat((code ^ (code >> 29)) * (2 * within + random[4] | 1), first)
    delays_s = _delays(trace)
    usual = np.zeros(len(trace.names))
    for name in np.unique(trace.name[rows]):
        mine = rows[trace.name[rows] == name]
        usual[name] = float((trace.end_s[mine] - trace.start_s[mine]).mean())
    ideal_delay_s = float(np.median(delays_s[delays_s > 0])) if (delays_s > 0).any() else 0.0
    found = []
    for each in np.unique(signature):
        mine = first[signature == each]
        count = int(counts[signature == each][0])
        found.append(_group(trace, rows[mine[:, None] + np.arange(count)], slot[mine[0] : mine[0] + count], usual, delays_s, ideal_delay_s))
    return found


def _group(trace: Trace, table: Indices, slots: Indices, usual: Array, delays_s: Array, ideal_delay_s: float) -> _Group:
    """`table` [instances, operations] has the rows of each instance; the first instance says how they hang together."""
    one = table[0]
    kind, stage, micro_batch = trace.kind[one], trace.stage[one], trace.micro_batch[one]
    place = {(int(k), int(s), int(m)): at for at, (k, s, m) in enumerate(zip(kind, stage, micro_batch, strict=True))}
    before = [at - 1 if at and slots[at] == slots[at - 1] else -1 for at in range(len(one))]
    last = int(trace.stage.max())
    needs = [_need(place, int(k), int(s), int(m), last) for k, s, m in zip(kind, stage, micro_batch, strict=True)]
    order = _topological(before, needs)
    rank = np.empty(len(one), dtype=np.int64)
    rank[order] = np.arange(len(one))
    ordered = table[:, order]
    starts = np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]])
    return _Group(
        step=trace.step[table[:, 0]],
        replica=trace.replica[table[:, 0]],
        slot=slots[order],
        stage=stage[order],
        before=np.array([rank[before[at]] if before[at] >= 0 else -1 for at in order]),
        needs=np.array([rank[needs[at]] if needs[at] >= 0 else -1 for at in order]),
        times_s=trace.end_s[ordered] - trace.start_s[ordered],
        ideal_s=usual[trace.name[one[order]]],
        delays_s=delays_s[ordered],
        ideal_delay_s=np.where((delays_s[ordered] > 0).any(axis=0), ideal_delay_s, 0.0),
        workers=trace.worker[table[:, starts]],
        last=np.array([max(np.flatnonzero(stage[order] == each), default=-1) for each in range(last + 1)]),
    )


def _need(place: dict[tuple[int, int, int], int], kind: int, stage: int, micro_batch: int, last: int) -> int:
    if kind == FORWARD and stage > 0:
        return place.get((FORWARD, stage - 1, micro_batch), -1)
    if kind == BACKWARD:
        return place.get((BACKWARD, stage + 1, micro_batch) if stage < last else (FORWARD, stage, micro_batch), -1)
    return -1


def _topological(before: list[int], needs: list[int]) -> list[int]:
    """An order in which each operation comes after what it needs. Raises BedplateError where there is none."""
    waiting = [(b >= 0) + (n >= 0) for b, n in zip(before, needs, strict=True)]
    followers: dict[int, list[int]] = {}
    for at, pair in enumerate(zip(before, needs, strict=True)):
        for needed in pair:
            if needed >= 0:
                followers.setdefault(needed, []).append(at)
    ready = [at for at, count in enumerate(waiting) if not count]
    order: list[int] = []
    while ready:
        at = ready.pop()
        order.append(at)
        for follower in followers.get(at, ()):
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    if len(order) < len(before):
        raise BedplateError(
            "operations of the step trace wait for one another in a circle", fix="check its stages, micro-batches and times"
        )
    return order


def _delays(trace: Trace) -> Array:
    """How long what each compute operation needs was under way from the stage before (after), once both sides had begun: [rows]."""
    delays_s = np.zeros(len(trace.start_s))
    for backwards, kind in ((False, FORWARD), (True, BACKWARD)):
        received = np.flatnonzero((trace.kind == RECEIVE) & (trace.backwards == backwards))
        sent = np.flatnonzero((trace.kind == SEND) & (trace.backwards == backwards))
        if not len(received):
            continue
        begun = trace.start_s[received].copy()
        place = _at(_keys(trace, sent, 1 if not backwards else -1), _keys(trace, received, 0))
        known = place >= 0
        if known.any():
            begun[known] = np.maximum(begun[known], trace.start_s[sent[place[known]]])
        target = np.flatnonzero(trace.kind == kind)
        place = _at(_keys(trace, target, 0), _keys(trace, received, 0))
        delays_s[target[place[place >= 0]]] = np.maximum(trace.end_s[received] - begun, 0.0)[place >= 0]
    return delays_s


def _keys(trace: Trace, rows: Indices, shift: int) -> Indices:
    """What identifies an operation among those of its kind: step, replica, micro-batch and the stage at which it arrives."""
    stages, micro_batches = int(trace.stage.max()) + 3, int(trace.micro_batch.max()) + 1
    replicas = int(trace.replica.max()) + 1
    at = (trace.step[rows] * replicas + trace.replica[rows]) * micro_batches + trace.micro_batch[rows]
    return np.asarray(at * stages + trace.stage[rows] + shift + 1)


def _at(known: Indices, wanted: Indices) -> Indices:
    """Where each of `wanted` is in `known`; -1 for what is not there."""
    if not len(known):
        return np.full(len(wanted), -1)
    order = np.argsort(known, kind="stable")
    place = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
    return np.asarray(np.where(known[order][place] == wanted, order[place], -1))


def _observed_s(trace: Trace, steps: int) -> float:
    begun, ended = np.full(steps, np.inf), np.full(steps, -np.inf)
    np.minimum.at(begun, trace.step, trace.start_s)
    np.maximum.at(ended, trace.step, trace.end_s)
    return float((ended - begun).sum())
