"""The time of a step as a function of what each rank does in it, so that "what if this were gone" has an answer.

A rank's own work is input, compute, optimizer and host. Without a pipeline, ranks wait for the slowest, then for the link. In a pipeline of
p ranks and m micro-batches, a step takes the sum of the stages' times for one micro-batch and m - 1 times the slowest stage's (Huang et
al., GPipe, 2019, section 2.3; the same for 1F1B: Narayanan et al., Efficient large-scale language model training on GPU clusters, SC'21,
section 2.2); v parts a rank divide the bubble by v. What is left of the measured time is the link's.
Does not know: which of its parts is to blame (`rules`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bedplate.train.doctor.measured import Array, Indices, Measured

DRAWS = 512


@dataclass(frozen=True)
class Work:
    """Seconds a step, float64 [stretches, ranks] each; `link_s` and `checkpoint_s` are [stretches]."""

    input_s: Array
    compute_s: Array
    other_s: Array
    checkpoint_s: Array
    link_s: Array
    stage: Indices
    replica: Indices
    micro_batches: float
    stages_per_rank: int

    @property
    def pipeline(self) -> int:
        """How many ranks form a pipeline."""
        return int(self.stage.max()) + 1

    def time_s(self) -> Array:
        """The time of a step: float64 [stretches]."""
        own = self.stepping_s()
        found: Array = own + self.link_s + self.checkpoint_s
        return found

    def stepping_s(self) -> Array:
        """The time of a step but for the link and checkpoints: that of the slowest replica."""
        times = [self._replica_s(self.replica == number) for number in np.unique(self.replica)]
        found: Array = np.max(np.stack(times), axis=0)
        return found

    def bubble_s(self) -> Array:
        """The part of a step in which the ranks of a pipeline have nothing to do though all its stages are equal: float64 [stretches]."""
        even = self.compute_s.mean(axis=1) / self.micro_batches
        found: Array = (self.pipeline - 1) / self.stages_per_rank * even
        return found

    def _replica_s(self, mine: npt.NDArray[np.bool_]) -> Array:
        if self.pipeline == 1:
            found: Array = (self.input_s + self.compute_s + self.other_s)[:, mine].max(axis=1)
            return found
        each = self.compute_s[:, mine] / self.micro_batches
        slowest = each.max(axis=1)
        flowing = self.micro_batches * slowest + (each.sum(axis=1) - slowest) / self.stages_per_rank
        return np.asarray(self.input_s[:, mine].max(axis=1) + flowing + self.other_s[:, mine].max(axis=1))


def work_of(run: Measured) -> Work:
    """The parts of the measured steps; the link gets what nothing else explains, without what jitter makes ranks wait."""
    zero = np.zeros(len(run.steps))
    work = Work(
        input_s=run.of("input"),
        compute_s=run.of("compute"),
        other_s=run.of("optimizer", "host"),
        checkpoint_s=run.of("checkpoint").max(axis=1),
        link_s=zero,
        stage=run.stage,
        replica=run.replica,
        micro_batches=float(max(1, run.micro_batches)),
        stages_per_rank=run.stages_per_rank,
    )
    left = run.step_s - work.stepping_s() - work.checkpoint_s
    waits = run.of("communication").min(axis=1) if work.pipeline == 1 else np.maximum(left, 0.0)
    return replace(work, link_s=np.maximum(np.minimum(waits, np.maximum(left, 0.0)) - jitter_s(run), 0.0))


def jitter_s(run: Measured) -> Array:
    """What ranks wait for one another in a stretch though on average they are equally fast: float64 [stretches].

    The mean of the largest of all ranks' times less the largest of their means. A stretch of one step shows it as it was: zero.
    """
    if run.ranks == 1:
        return np.zeros(len(run.steps))
    drawn = np.random.default_rng(0).standard_normal((DRAWS, run.ranks)) * run.noise
    means = run.of("input", "compute", "optimizer", "host").mean(axis=0)
    waited = float((means + drawn).max(axis=1).mean() - means.max())
    return np.where(run.steps > 1, max(0.0, waited), 0.0)
