"""The training loop behind `run.batches(..., state=...)`: restore, go through the epochs, meet, checkpoint, stop on notice.

Ranks meet every few steps, about five times a second: one small all-reduce tells all of them whether to stop, to write a checkpoint
and to bring metrics home, and how many steps the next stretch has. Only there do wall clocks and signals matter, so every rank acts at
the same step, and the numbers trained do not depend on them.

A run that is resumed at the same world size ends with the same bits as one that nothing happened to: gradients are summed in the same
order before and after (`parallel.SteadyCopies`; tested on one, two and four ranks).
Does not know: user code, or how a batch becomes tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bedplate.core.errors import JobError
from bedplate.core.protocols import Feed
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.failures import NumericError
from bedplate.train.keeper import Keeper
from bedplate.train.losses import LossWatch
from bedplate.train.memory import Memory
from bedplate.train.metrics import MetricBuffer
from bedplate.train.notice import Regroup, StopNotice, Stopped
from bedplate.train.preprocess import Columns
from bedplate.train.stragglers import StragglerWatch
from bedplate.train.timers import Timers

Batch = dict[str, torch.Tensor]

MEET_EVERY_S = 0.2
LONGEST_STRETCH = 1024
FAR = 2.0**53  # no run has so many steps


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
    memory: Memory
    watch: LossWatch
    timers: Timers
    write_timings: Callable[[bool], None]
    stepped: Callable[[], None]
    notices: Callable[[Mapping[str, Any]], None]

    def batches(self) -> Iterator[Batch]:
        """The batches of this rank. Raises JobError for a batch size that cannot be dealt out, and Stopped on notice."""
        over = self.over
        per_epoch = self._rows_per_epoch()
        if self.group.batch_ranks == self.group.world_size:
            self.memory.deals(over.batch_size)
        self._loop, self.keeper.loops = self.keeper.loops, self.keeper.loops + 1
        self._stretch, self._since_meeting, self._met_at_s = 1, 0, time.monotonic()
        self._places: dict[int, tuple[int, int, int]] = {}
        position = self._restored()
        if position is None:
            return
        self.memory.follow(position, self.state)
        self.timers.begin()
        self._own_s, self._stragglers = 0.0, StragglerWatch()
        with self.notice.deferred():
            for epoch in range(position.epoch, over.epochs):
                start = position.sample if epoch == position.epoch else 0
                for each, batch in self._timed(self._epoch(epoch, start)):
                    self.keeper.steps += 1
                    if batch is not None:
                        self.memory.move("user")
                        yield batch
                    position = Position(self._loop, epoch, each.position, self.keeper.steps)
                    self._finish_step(position)
                    self.progress(epoch * per_epoch + each.position, over.epochs * per_epoch, f"epoch {epoch + 1} of {over.epochs}")
                    if self._since_meeting >= self._stretch:
                        self._meet(position)
            self._meet(position)
        self.memory.move("outside")
        self.write_timings(True)

    def _timed(self, dealt: Iterator[Any]) -> Iterator[tuple[Any, Batch | None]]:
        """What the feed deals out, with the batch on the device: None for one that is to be left out."""
        while True:
            with self.timers.span("input"):
                each = next(dealt, None)
                if each is None:
                    return
                skipped = self.memory.skips(self._loop, each.epoch, each.position)
                batch = None if skipped else self.encode(each.columns)
            yield each, batch

    def _finish_step(self, position: Position) -> None:
        self._places[position.step] = (self._loop, position.epoch, position.sample)
        with self.timers.span("checkpoint"):
            self.memory.mark(position)
        self._own_s += sum(self.timers.spent_s(name) for name in ("host", "input", "compute", "optimizer"))
        self._since_meeting += 1
        self.timers.end_step(position.step)
        self.stepped()

    def _restored(self) -> Position | None:
        """Where to go on: from the memory of another rank, else from a checkpoint. None when the whole of this loop is behind."""
        self.memory.move("restore")
        if self.memory.gives():
            position, self.keeper.steps = self.memory.restore(self._loop, self.state, self.group)
            return position
        return self.keeper.restore(self._loop, self.state, self.over.facts())

    def _epoch(self, epoch: int, start: int) -> Iterator[Any]:
        rank, world_size = self.group.batch_rank, self.group.batch_ranks
        size, seed = self.over.batch_size, self.over.seed
        return self.feed.batches(self.over.split, batch_size=size, rank=rank, world_size=world_size, epoch=epoch, seed=seed, start=start)

    def _rows_per_epoch(self) -> int:
        size, rows = self.over.batch_size, self.feed.rows(self.over.split)
        if size <= 0 or size % self.group.batch_ranks:
            raise JobError("the batch size cannot be dealt out to the ranks", value=size, fix=f"use a multiple of {self.group.batch_ranks}")
        if size > rows:
            raise JobError(f"a batch is larger than the {self.over.split!r} split", value=size, fix=f"use at most {rows}")
        return rows // size * size

    def _meet(self, position: Position) -> None:
        """Agree on what to do after this step, and do it. All but the notice is for rank 0 to say."""
        self.memory.move("meeting")
        now = time.monotonic()
        step_s = (now - self._met_at_s) / max(self._since_meeting, 1)
        mine = [self.keeper.due(), self.metrics.due(), self.memory.called, step_s] if self.group.rank == 0 else [0, 0, 0, 0.0]
        bad = self._bad_step()
        own = [self._own_s if rank == self.group.rank else 0.0 for rank in range(self.group.world_size)]
        with self.timers.span("communication"):
            agreed = self.group.agree([self.notice.given, *mine, -bad if bad else -FAR, *own])
        stop, save, flush, called, step_s, fine = agreed[:6]
        self._mind_stragglers(position, agreed[6:])
        longest = min(LONGEST_STRETCH, 4 * self._stretch)  # the first steps are no measure of the others
        self._stretch = max(1, min(longest, int(MEET_EVERY_S / max(step_s, 1e-6))))
        self._since_meeting, self._met_at_s = 0, now
        places, self._places = self._places, {}
        if fine > -FAR:
            raise self._numeric(int(-fine), places)
        if flush or stop:
            with self.timers.span("communication"):
                self.metrics.flush()
        if called:
            raise Regroup
        if save or stop:
            self.memory.move("checkpoint")
            with self.timers.span("checkpoint"):
                self.keeper.save(position, self.state, self.over.facts(), self.metrics.last)
        if stop:
            with self.timers.span("checkpoint"):
                self.keeper.settle()
            raise Stopped
        self.write_timings(False)
        self.memory.move("input")

    def _mind_stragglers(self, position: Position, own_s: Sequence[float]) -> None:
        self._own_s = 0.0
        found = self._stragglers.see(own_s) if self.group.rank == 0 else None
        if found is not None:
            self.notices({"failure": "straggler", "rank": found.rank, "step": position.step, "message": found.message()})

    def _bad_step(self) -> int:
        """The first step since the last meeting whose loss, as this rank logged it, is no number or a spike; 0 when all are fine."""
        return next((step for step, loss in self.metrics.losses() if self.watch.is_bad(loss)), 0)

    def _numeric(self, step: int, places: Mapping[int, tuple[int, int, int]]) -> NumericError:
        """The error of the batch of `step`, the same on every rank."""
        where = places.get(step, (self._loop, 0, 0))
        return NumericError(
            f"the loss of step {step} is not finite, or far above those before",
            fix="lower the learning rate, clip gradients, or let the run skip the batch: `on_numeric: rollback`",
            where=where,
        )
