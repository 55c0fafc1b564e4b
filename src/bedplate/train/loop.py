"""The training loop behind `run.batches(..., state=...)`: restore, go through the epochs, meet, checkpoint, stop on notice.

Ranks meet every few steps, about five times a second: one small all-reduce tells all of them whether to stop, to write a checkpoint
and to bring metrics home, and how many steps the next stretch has. Only there do wall clocks and signals matter, so every rank acts at
the same step, and the numbers trained do not depend on them.

A run that is resumed at the same world size ends with the same bits on one and on two ranks. On more, sums of gradients have an order,
and DistributedDataParallel lays its buckets out anew after its first step: the step after resuming may differ in the last bit.
Does not know: user code, or how a batch becomes tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bedplate.core.errors import JobError
from bedplate.core.protocols import Feed
from bedplate.train.checkpoint import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper
from bedplate.train.metrics import MetricBuffer
from bedplate.train.notice import StopNotice, Stopped
from bedplate.train.preprocess import Columns

Batch = dict[str, torch.Tensor]

MEET_EVERY_S = 0.2
LONGEST_STRETCH = 1024


@dataclass(frozen=True)
class Pass:
    """Which rows, how often, how many at a time (`batch_size` counts samples over all ranks), in the order of which seed."""

    split: str
    epochs: int
    batch_size: int
    seed: int

    def facts(self) -> dict[str, Any]:
        """What must be equal for a position to mean the same."""
        return {"split": self.split, "batch_size": self.batch_size, "seed": self.seed}


@dataclass
class TrainingLoop:
    """One stateful loop. `encode` turns columns into tensors on the run's device; `progress` is told samples done, all samples, a note."""

    over: Pass
    state: Sequence[Any]
    feed: Feed
    encode: Callable[[Columns], Batch]
    progress: Callable[[int, int, str], None]
    group: Group
    notice: StopNotice
    metrics: MetricBuffer
    keeper: Keeper

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank. Raises JobError for a batch size that cannot be dealt out, and Stopped on notice."""
        over = self.over
        per_epoch = self._rows_per_epoch()
        self._loop, self.keeper.loops = self.keeper.loops, self.keeper.loops + 1
        self._stretch, self._since_meeting, self._met_at_s = 1, 0, time.monotonic()
        position = self.keeper.restore(self._loop, self.state, over.facts())
        if position is None:
            return
        with self.notice.deferred():
            for epoch in range(position.epoch, over.epochs):
                start = position.sample if epoch == position.epoch else 0
                for each in self._epoch(epoch, start):
                    self.keeper.steps += 1
                    yield self.encode(each.columns)
                    position = Position(self._loop, epoch, each.position, self.keeper.steps)
                    self.progress(epoch * per_epoch + each.position, over.epochs * per_epoch, f"epoch {epoch + 1} of {over.epochs}")
                    self._since_meeting += 1
                    if self._since_meeting >= self._stretch:
                        self._meet(position)
            self._meet(position)

    def _epoch(self, epoch: int, start: int) -> Iterator[Any]:
        rank, world_size = self.group.rank, self.group.world_size
        size, seed = self.over.batch_size, self.over.seed
        return self.feed.batches(self.over.split, batch_size=size, rank=rank, world_size=world_size, epoch=epoch, seed=seed, start=start)

    def _rows_per_epoch(self) -> int:
        size, rows = self.over.batch_size, self.feed.rows(self.over.split)
        if size <= 0 or size % self.group.world_size:
            raise JobError("the batch size cannot be dealt out to the ranks", value=size, fix=f"use a multiple of {self.group.world_size}")
        if size > rows:
            raise JobError(f"a batch is larger than the {self.over.split!r} split", value=size, fix=f"use at most {rows}")
        return rows // size * size

    def _meet(self, position: Position) -> None:
        """Agree on what to do after this step, and do it. All but the notice is for rank 0 to say."""
        now = time.monotonic()
        step_s = (now - self._met_at_s) / max(self._since_meeting, 1)
        mine = [self.keeper.due(), self.metrics.due(), step_s] if self.group.rank == 0 else [0, 0, 0.0]
        stop, save, flush, step_s = self.group.agree([self.notice.given, *mine])
        longest = min(LONGEST_STRETCH, 4 * self._stretch)  # the first steps are no measure of the others
        self._stretch = max(1, min(longest, int(MEET_EVERY_S / max(step_s, 1e-6))))
        self._since_meeting, self._met_at_s = 0, now
        if flush or stop:
            self.metrics.flush()
        if save or stop:
            self.keeper.save(position, self.state, self.over.facts())
        if stop:
            self.keeper.wait()
            raise Stopped
