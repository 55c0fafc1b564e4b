"""The training loop behind `run.batches(..., state=...)`: restore, go through the epochs, meet, checkpoint, stop on notice.

Ranks meet every few steps, about five times a second: one small all-reduce tells all of them whether to stop, to write a checkpoint
and to bring metrics home, and how many steps the next stretch has. Only then do wall clocks and signals matter, so every rank acts at
the same step and the numbers trained do not depend on them.
Does not know: user code, or how a batch becomes tensors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError, JobError
from bedplate.core.journal import JournalWriter
from bedplate.core.protocols import Feed
from bedplate.train.checkpoint import CheckpointWriter, Content, Position, newest
from bedplate.train.distributed import Group
from bedplate.train.metrics import MetricBuffer
from bedplate.train.notice import Stopped, StopNotice
from bedplate.train.preprocess import Columns
from bedplate.train.tree import generators, restore_generators

Batch = dict[str, torch.Tensor]

MEET_EVERY_S = 0.2
LONGEST_STRETCH = 1024
CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True)
class Pass:
    """Which rows, how often, in what order. `batch_size` counts samples over all ranks."""

    split: str
    epochs: int
    batch_size: int
    seed: int


class Keeper:
    """The checkpoints of one attempt over all its loops: what was restored, the writer (of rank 0), the steps so far."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, group: Group, device: torch.device) -> None:
        """Find the newest whole checkpoint. Rank 0 chooses, and all load the same."""
        self.journal = journal
        self.group = group
        self.device = device
        self.every_s = float(attempt.spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S))
        self.loops = 0
        self.steps = 0
        found = newest(attempt, journal) if group.rank == 0 else None
        self.restored, known = found or (None, None)
        self.writer = CheckpointWriter(attempt, journal, known)
        self._saved_at_s = time.monotonic()

    def due(self) -> bool:
        """Whether rank 0 wants a checkpoint now."""
        return self.group.rank == 0 and not self.writer.busy and time.monotonic() - self._saved_at_s >= self.every_s

    def save(self, position: Position, state: Sequence[Any], facts: Mapping[str, Any]) -> None:
        """Begin a checkpoint. Every rank calls this at the same step."""
        self._saved_at_s = time.monotonic()
        gathered = self.group.gather(encode_json(generators(self.device)))
        if self.group.rank == 0:
            states = [bare(each).state_dict() for each in state]
            self.writer.begin(Content(position, states, [decode_json(each) for each in gathered], facts))
