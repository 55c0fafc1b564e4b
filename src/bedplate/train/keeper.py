"""The keeper: which checkpoint a run goes on from, and when and of what the next one is made.

Does not know: how a checkpoint lies on disk (`checkpoint`), or the batches between two of them (`loop`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from bedplate.core.atomic import confined
from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoint import CheckpointWriter, Content, Position, load, newest
from bedplate.train.distributed import Group
from bedplate.train.tree import generators, restore_generators

CHECKPOINT_EVERY_S = 30.0


def bare(state: Any) -> Any:
    """A module without the wrapper that shares its gradients, so that its names do not depend on the world size."""
    return state.module if isinstance(state, DistributedDataParallel) else state


class Keeper:
    """The checkpoints of one attempt over all its stateful loops: what was restored, the writer (of rank 0), the steps so far."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, group: Group, device: torch.device) -> None:
        """Load the newest whole checkpoint: rank 0 chooses, all take the same. Raises CheckpointError when it is lost in between."""
        self.loops = 0
        self.steps = 0
        self._group = group
        self._device = device
        self._every_s = float(attempt.spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S))
        self._saved_at_s = time.monotonic()
        found = newest(attempt, journal) if group.rank == 0 else None
        self._restored: Content | None
        self._restored, known = found or (None, None)
        self._writer = CheckpointWriter(attempt, journal)
        if attempt.checkpoint is not None:
            chosen = json.loads(group.broadcast(json.dumps(known).encode()))
            if chosen is not None and self._restored is None:
                self._restored = load(confined(Path(attempt.state), chosen["location"]), chosen["digest"])

    def restore(self, loop: int, state: Sequence[Any], facts: Mapping[str, Any]) -> Position | None:
        """Put the restored checkpoint into `state` and say where to go on; None when the whole of this loop is behind it."""
        found = self._restored
        if found is None or found.position.loop < loop:
            return Position(loop, 0, 0, self.steps)
        self.steps = found.position.step
        if found.position.loop > loop:
            return None
        if len(found.states) != len(state) or dict(found.facts) != dict(facts):
            value = {**found.facts, "states": len(found.states)}
            raise CheckpointError("the checkpoint is of another loop", value=value, fix="keep split, batch_size, seed, state")
        for target, values in zip(state, found.states, strict=True):
            bare(target).load_state_dict(values)
        if self._group.rank < len(found.generators):
            restore_generators(found.generators[self._group.rank], self._device)
        self._restored = None
        return found.position

    def due(self) -> bool:
        """Whether rank 0 wants a checkpoint now."""
        waited_s = time.monotonic() - self._saved_at_s
        return self._group.rank == 0 and waited_s >= self._every_s and not self._writer.busy

    def save(self, position: Position, state: Sequence[Any], facts: Mapping[str, Any]) -> None:
        """Begin a checkpoint. Every rank calls this at the same step."""
        self._saved_at_s = time.monotonic()
        gathered = self._group.gather(json.dumps(generators(self._device)).encode())
        if self._group.rank == 0:
            states = [bare(each).state_dict() for each in state]
            self._writer.begin(Content(position, states, [json.loads(each) for each in gathered], facts))

    def wait(self) -> None:
        """Return when nothing is being written."""
        self._writer.wait()
