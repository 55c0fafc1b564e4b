"""Packing: onto which node, and which of its accelerators, a pod goes, so that little is left that nobody can use. Pure.

`least_fragmentation` is fragmentation gradient descent (Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with
Fragmentation Gradient Descent", ATC'23): the share of accelerators that a pod drawn from the usual mix could not use is a node's
fragmentation, and a pod goes where it adds least. `best_fit` leaves least of everything, `first_fit` takes the first node.
Scores are kept by shape of pod, and brought up to date for the nodes that changed since that shape was last placed.
Does not know: queues, prices, topology or who may run (`queue`); numbers of accelerators are in thousandths of a device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Rule = Literal["first_fit", "best_fit", "least_fragmentation"]

WHOLE = 1000  # thousandths of one accelerator


@dataclass(frozen=True)
class Shape:
    """What a pod asks for: thousandths of a core, MiB, and so many accelerators of which it takes `share` thousandths each."""

    cpu_milli: int
    memory_mib: int
    devices: int = 0
    share: int = 0


@dataclass(frozen=True)
class Spot:
    """Where a pod went: the number of its node, and the accelerators there."""

    node: int
    devices: tuple[int, ...]


@dataclass
class Nodes:
    """What is free on each node: `cpu_milli` [nodes], `memory_mib` [nodes], and `shares` [nodes, most devices] (0 where there is none)."""

    cpu_milli: Ints
    memory_mib: Ints
    shares: Ints

    def fits(self, shape: Shape, rows: Ints) -> npt.NDArray[np.bool_]:
        """Which of the nodes `rows` can take a pod."""
        enough = (self.cpu_milli[rows] >= shape.cpu_milli) & (self.memory_mib[rows] >= shape.memory_mib)
        if shape.devices:
            enough &= (self.shares[rows] >= shape.share).sum(axis=1) >= shape.devices
        return enough

    def take(self, shape: Shape, spot: Spot, times: int = 1) -> None:
        """Give a pod its part; with `times` -1, take it back."""
        self.cpu_milli[spot.node] -= times * shape.cpu_milli
        self.memory_mib[spot.node] -= times * shape.memory_mib
        for device in spot.devices:
            self.shares[spot.node, device] -= times * shape.share


@dataclass(frozen=True)
class Mix:
    """The pods that usually come: shapes [m] as columns, and how often each comes (adds up to 1)."""

    cpu_milli: Ints
    memory_mib: Ints
    devices: Ints
    share: Ints
    weight: Floats

    @staticmethod
    def of(counts: Mapping[Shape, int], most: int = 64) -> Mix:
        """The mix of the `most` most frequent shapes."""
        common = sorted(counts.items(), key=lambda each: (-each[1], each[0].devices, each[0].share, each[0].cpu_milli))[:most]
        columns = np.array([[s.cpu_milli, s.memory_mib, s.devices, s.share] for s, _ in common], np.int64).reshape(-1, 4).T
        weight = np.array([count for _, count in common], np.float64)
        return Mix(columns[0], columns[1], columns[2], columns[3], weight / max(weight.sum(), 1.0))


def fragmentation(cpu_milli: Ints, memory_mib: Ints, shares: Ints, mix: Mix) -> Floats:
    """The accelerator thousandths on each node that a pod of the mix is expected not to be able to use, shape [nodes].

    A pod that does not fit, or wants no accelerator, can use none; one that fits cannot use devices with less free than its share.
    """
    able = shares[:, None, :] >= np.maximum(mix.share, 1)[None, :, None]  # [nodes, mix, devices]
    fits = (cpu_milli[:, None] >= mix.cpu_milli) & (memory_mib[:, None] >= mix.memory_mib) & (able.sum(axis=2) >= mix.devices)
    usable = np.einsum("nmd,nd->nm", able, shares, dtype=np.float64) * (fits & (mix.devices > 0))
    wasted: Floats = shares.sum(axis=1) - usable @ mix.weight
    return np.round(wasted, 6)  # sums of other batches of nodes may round otherwise in the last bit, and equal scores must stay equal


@dataclass
class _Scores:
    score: Floats  # [nodes], infinite where a pod of the shape does not fit
    device: Ints  # [nodes], for a pod that shares one
    stale: set[int] = field(default_factory=set)


class Packer:
    """Places pods on nodes by one rule; `nodes` changes with every pod."""

    def __init__(self, nodes: Nodes, rule: Rule, mix: Mix) -> None:
        self.nodes = nodes
        self._rule = rule
        self._mix = mix
        self._total = (max(1, int(nodes.cpu_milli.max())), max(1, int(nodes.memory_mib.max())), max(1, int(nodes.shares.sum(axis=1).max())))
        self._scores: dict[Shape, _Scores] = {}

    def place(self, shape: Shape) -> Spot | None:
        """Give a pod its place; None when no node can take it."""
        scores = self._current(shape)
        node = int(np.argmin(scores.score))
        if not np.isfinite(scores.score[node]):
            return None
        spot = Spot(node, self._devices(shape, node, int(scores.device[node])))
        self._change(shape, spot, 1)
        return spot

    def release(self, shape: Shape, spot: Spot) -> None:
        """Take a pod's part back."""
        self._change(shape, spot, -1)

    def _change(self, shape: Shape, spot: Spot, times: int) -> None:
        self.nodes.take(shape, spot, times)
        for scores in self._scores.values():
            scores.stale.add(spot.node)

    def _devices(self, shape: Shape, node: int, chosen: int) -> tuple[int, ...]:
        if shape.devices == 1:
            return (chosen,)
        free = np.flatnonzero(self.nodes.shares[node] >= shape.share)
        return tuple(int(device) for device in free[: shape.devices])

    def _current(self, shape: Shape) -> _Scores:
        scores = self._scores.get(shape)
        if scores is None:
            count = len(self.nodes.cpu_milli)
            scores = self._scores[shape] = _Scores(np.full(count, np.inf), np.zeros(count, np.int64), set(range(count)))
        if scores.stale:
            rows = np.fromiter(scores.stale, np.int64, len(scores.stale))
            scores.stale.clear()
            scores.score[rows] = np.inf
            rows = rows[self.nodes.fits(shape, rows)]
            if len(rows):
                scores.score[rows], scores.device[rows] = self._scored(shape, rows)
        return scores

    def _scored(self, shape: Shape, rows: Ints) -> tuple[Floats, Ints]:
        """The score of each node, lower is better, and the device for a pod that takes one."""
        shares = self.nodes.shares[rows]
        open_to_it = shares >= max(shape.share, 1)
        tightest = np.where(open_to_it, shares, np.iinfo(np.int64).max).argmin(axis=1)
        if self._rule == "first_fit":
            return rows.astype(np.float64), tightest
        if self._rule == "best_fit":
            left = (self.nodes.cpu_milli[rows] - shape.cpu_milli) / self._total[0]
            left = left + (self.nodes.memory_mib[rows] - shape.memory_mib) / self._total[1]
            return left + (shares.sum(axis=1) - shape.devices * shape.share) / self._total[2], tightest
        return self._least_added(shape, rows, shares, open_to_it)

    def _least_added(self, shape: Shape, rows: Ints, shares: Ints, open_to_it: Any) -> tuple[Floats, Ints]:
        cpu, memory = self.nodes.cpu_milli[rows], self.nodes.memory_mib[rows]
        before = fragmentation(cpu, memory, shares, self._mix)
        cpu, memory = cpu - shape.cpu_milli, memory - shape.memory_mib
        if shape.devices != 1:
            given = open_to_it & (np.cumsum(open_to_it, axis=1) <= shape.devices)
            after = fragmentation(cpu, memory, shares - given * shape.share, self._mix)
            return after - before, np.zeros(len(rows), np.int64)
        best, device = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
        for each in range(shares.shape[1]):
            able = np.flatnonzero(open_to_it[:, each])
            if not len(able):
                continue
            rest = shares[able].copy()
            rest[:, each] -= shape.share
            added = fragmentation(cpu[able], memory[able], rest, self._mix) - before[able]
            better = added < best[able]
            best[able[better]], device[able[better]] = added[better], each
        return best, device


def unallocated(nodes: Nodes, total_shares: int) -> float:
    """The part of all accelerators that is free."""
    return float(nodes.shares.sum()) / total_shares


def pack(packer: Packer, shapes: Sequence[Shape]) -> int:
    """Place pods in order; returns how many found a place."""
    return sum(packer.place(shape) is not None for shape in shapes)
