"""How much faster a training job gets with more devices, learned from its own steps. Pure.

A job's progress is its goodput: samples a second times their statistical efficiency, that of a sample in a larger batch being less (Qiao et
al., "Pollux: Co-adaptive Cluster Scheduling for Goodput-Optimized Deep Learning", OSDI'21, sections 3 and 4.1). The step is modelled as
computation, linear in the micro-batch, and synchronisation, with a constant and a part that grows with the ranks, apart for ranks on one
node and on several. What was not measured yet is taken to be as cheap as it can be, so that it gets tried.
Does not know: who else wants devices (`cluster.elastic`), or when a job ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BATCHES_TRIED = 40  # batch sizes between the smallest and the largest, evenly in their logarithm
ACROSS_OVER_WITHIN = 1.1  # synchronisation across nodes costs at least this much of that within one


@dataclass(frozen=True)
class Observation:
    """A measured step: `micro_batch` samples a rank at a time, `step_s` seconds of which `sync_s` wait for other ranks."""

    nodes: int
    ranks: int
    micro_batch: int
    step_s: float
    sync_s: float


@dataclass(frozen=True)
class Batches:
    """What a job allows: samples in its own batch and at most, samples that a device holds at least and at most."""

    usual: int
    most: int
    least_micro: int
    most_micro: int


@dataclass(frozen=True)
class GradientNoise:
    """Squared norm of the mean gradient, and its variance, at the usual batch (McCandlish et al., arXiv:1812.06162)."""

    squared: float
    variance: float

    def efficiency(self, scale: Floats) -> Floats:
        """Progress of a sample in a batch `scale` times the usual one, relative to one in the usual batch."""
        below = self.variance / scale + self.squared
        gain = np.divide(self.variance + self.squared, below, out=np.ones_like(scale), where=below > 0)
        found: Floats = gain / scale
        return found


@dataclass(frozen=True)
class StepModel:
    """Seconds of a step: `compute` + (constant, a sample); `within` and `across` nodes: (constant, each rank beyond two)."""

    compute: tuple[float, float]
    within: tuple[float, float]
    across: tuple[float, float]

    @staticmethod
    def fit(seen: Sequence[Observation]) -> StepModel:
        """By least squares, no coefficient below zero. Of one micro-batch alone half the computation is taken to be constant."""
        micro = np.array([each.micro_batch for each in seen], np.float64)
        compute = np.array([each.step_s - each.sync_s for each in seen])
        if len(np.unique(micro)) == 1:
            half = float(compute.mean()) / 2
            line = (half, half / float(micro[0]))
        else:
            line = _line(micro, compute)
        within = _synchronising([each for each in seen if each.nodes == 1 and each.ranks > 1])
        across = _synchronising([each for each in seen if each.nodes > 1])
        least = (within[0] * ACROSS_OVER_WITHIN, within[1] * ACROSS_OVER_WITHIN)
        return StepModel(line, within, across if any(each.nodes > 1 for each in seen) else least)

    def micro_step_s(self, micro_batch: Floats) -> Floats:
        """Computation of one micro-batch."""
        return self.compute[0] + self.compute[1] * micro_batch

    def sync_s(self, nodes: Floats, ranks: Floats) -> Floats:
        """Waiting for the other ranks, once a step."""
        more = np.maximum(ranks - 2, 0)
        within, across = self.within[0] + self.within[1] * more, self.across[0] + self.across[1] * more
        found: Floats = np.where(ranks == 1, 0.0, np.where(nodes > 1, across, within))
        return found


@dataclass(frozen=True)
class Setting:
    """How a job runs best on its devices: usual samples' worth of progress a second, with so many of `micro_batch` accumulated a step."""

    goodput: float
    micro_batch: int
    accumulate: int


def goodputs(model: StepModel, noise: GradientNoise, batches: Batches, nodes: Floats, ranks: Floats) -> list[Setting]:
    """The best setting for each (nodes [n], ranks [n]); a goodput of 0 where no batch that is allowed fits the devices.

    One rank that goes beyond the usual batch accumulates at least twice: the gradient's noise cannot be measured otherwise.
    """
    least = np.maximum(batches.usual, batches.least_micro * ranks)
    batch = np.geomspace(least, np.maximum(batches.most, least), BATCHES_TRIED)
    local = batch / ranks
    accumulate = np.ceil(local / batches.most_micro - 1e-8)
    accumulate = np.where((ranks == 1) & (local > batches.usual + 1e-8), np.maximum(accumulate, 2), accumulate)
    micro = np.ceil(local / accumulate - 1e-8)
    micro = np.minimum(micro, batches.most // (ranks * accumulate))
    whole = ranks * micro * accumulate
    step_s = accumulate * model.micro_step_s(micro) + model.sync_s(nodes, ranks)
    goodput = whole / step_s * noise.efficiency(whole / batches.usual)
    goodput = np.where((micro >= batches.least_micro) & (micro <= batches.most_micro), goodput, 0.0)
    best = goodput.argmax(axis=0)
    at = np.arange(len(ranks))
    return [
        Setting(float(good), int(size), int(times))
        for good, size, times in zip(goodput[best, at], micro[best, at], accumulate[best, at], strict=True)
    ]


def speedups(model: StepModel, noise: GradientNoise, batches: Batches, most: int, devices_per_node: int) -> Floats:
    """Goodput with 0 to `most` devices, packed on as few nodes as hold them, over that of one: float64 [most + 1], never falling."""
    ranks = np.arange(1, most + 1, dtype=np.float64)
    found = goodputs(model, noise, batches, np.ceil(ranks / devices_per_node), ranks)
    values = np.array([0.0, *(each.goodput for each in found)])
    one = values[1] if values[1] > 0 else max(float(values.max()), 1e-12)
    risen: Floats = np.maximum.accumulate(values / one)
    return risen


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Constant and slope, neither below zero."""
    slope, constant = (float(each) for each in np.polyfit(x, y, 1))
    if slope < 0:
        return float(y.mean()), 0.0
    if constant < 0:
        return 0.0, float((x * y).sum() / (x * x).sum())
    return constant, slope


def _synchronising(seen: Sequence[Observation]) -> tuple[float, float]:
    if not seen:
        return 0.0, 0.0
    more = np.array([max(each.ranks - 2, 0) for each in seen], np.float64)
    waited = np.array([each.sync_s for each in seen])
    if len(np.unique(more)) == 1:
        return float(waited.mean()), 0.0
    return _line(more, waited)
