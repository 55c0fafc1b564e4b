"""The keeper: which checkpoint a run goes on from, and when and of what the next one is made.

Does not know: how a checkpoint lies in its tiers (`checkpoints`), or the batches between two of them (`loop`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bedplate.core.attempt import Attempt
from bedplate.core.errors import BedplateError, CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.capture import apply, bare
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.interval import PRIOR_MTBF_S, best_interval_s
from bedplate.train.checkpoints.reading import Stored, opened
from bedplate.train.checkpoints.retention import Keep
from bedplate.train.checkpoints.tiers import tiers_of
from bedplate.train.checkpoints.writer import CheckpointWriter, Content
from bedplate.train.distributed import Group
from bedplate.train.tree import generators, restore_generators

CHECKPOINT_EVERY_S = 30.0
RETRY_S = 5.0  # after a checkpoint that could not be written
UPLOAD_LIMIT_S = 20.0  # how long the end of a run waits for copies to object stores

__all__ = ["Keeper", "bare"]


class Keeper:
    """The checkpoints of one attempt over all its stateful loops: what is restored, the writer, the steps so far. One on every rank."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, group: Group, device: torch.device) -> None:
        """Reads nothing yet. Raises SpecError for tiers that do not exist."""
        self.loops = 0
        self.steps = 0
        self._attempt = attempt
        self._journal = journal
        self._group = group
        self._device = device
        declared = attempt.spec.get("checkpoint") or {}
        every_s = declared.get("every_s", attempt.spec.get("checkpoint_every_s", CHECKPOINT_EVERY_S))
        self._mtbf_s = float(declared.get("mtbf_s") or PRIOR_MTBF_S / group.world_size) if every_s == "auto" else None
        self._every_s = best_interval_s(float(declared.get("stall_s") or 0.1), self._mtbf_s) if self._mtbf_s else float(every_s)
        self._saved_at_s = time.monotonic()
        self._tiers = tiers_of(declared.get("tiers"), Path(attempt.state))
        self._writer = CheckpointWriter(attempt, journal, group, self._tiers, Keep.of(declared.get("keep")))
        self._found: Stored | None = None
        self._looked = False

    def restore(self, loop: int, state: Sequence[Any], facts: Mapping[str, Any]) -> Position | None:
        """Put the newest whole checkpoint into `state` and say where to go on; None when the whole of this loop is behind it.

        Every rank calls this. Raises CheckpointError for a checkpoint of another loop or model.
        """
        if not self._looked:
            self._writer.meet()
            self._found, self._looked = self._newest(), True
        found = self._found
        if found is None or found.position.loop < loop:
            return Position(loop, 0, 0, self.steps)
        self.steps = found.position.step
        if found.position.loop > loop:
            return None
        if dict(found.facts) != dict(facts):
            raise CheckpointError("the checkpoint is of another loop", value=dict(found.facts), fix="keep split, batch_size, seed")
        apply(state, found.trees, found)()
        if self._group.rank < len(found.generators):
            restore_generators(found.generators[self._group.rank], self._device)
        self._found = None
        return found.position

    def due(self) -> bool:
        """Whether rank 0 wants a checkpoint now."""
        waited_s = time.monotonic() - self._saved_at_s
        every_s = min(self._every_s, RETRY_S) if self._writer.failed else self._every_s
        return self._group.rank == 0 and waited_s >= every_s and not self._writer.busy

    def save(self, position: Position, state: Sequence[Any], facts: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Begin a checkpoint. Every rank calls this at the same step. `metrics` are the newest, for what keeps the best."""
        started_s = time.perf_counter()
        self._writer.begin(Content(position, state, generators(self._device), facts, dict(metrics or {})))
        self._saved_at_s = time.monotonic()
        if self._mtbf_s:
            self._every_s = best_interval_s(time.perf_counter() - started_s, self._mtbf_s)

    def wait(self) -> None:
        """Return when no checkpoint is being written to memory or disk."""
        self._writer.wait()

    def settle(self) -> None:
        """The same, and for copies to object stores some seconds more. For the end of a run."""
        self._writer.settle(UPLOAD_LIMIT_S)

    def finish(self) -> None:
        """After a success: copies to object stores are waited for some seconds, and shared memory is given back."""
        self.settle()
        self._writer.clear_memory()

    def abandon(self) -> None:
        """A rank was lost: what needs the others does not go on. Never raises."""
        self._writer.abandon()

    def close(self) -> None:
        """This rank keeps nothing for others any more. For the end of a generation, after `wait`."""
        self._writer.close()

    def _newest(self) -> Stored | None:
        """The newest checkpoint that is whole for all ranks; each that is not is told in the journal, in one line."""
        known = self._attempt.checkpoint
        for candidate in () if known is None else (known, *known.get("previous", ())):
            found: Stored | None = None
            try:
                found = opened(candidate["location"], candidate["digest"], self._tiers.places, self._tell)
                found.verify(range(self._group.rank, len(found.parts), self._group.world_size))
            except BedplateError as error:
                found = None
                self._tell(f"checkpoint of step {candidate['step']} is passed over: {error.one_line()}")
            if not self._group.agree([found is None])[0]:
                return found
        return None

    def _tell(self, text: str) -> None:
        self._journal.write("message", text=text)
