"""Metrics on their way to the journal: kept as they come, brought to the host seldom, averaged over ranks.

Bringing a tensor of an accelerator to the host waits for the device, so that is done for many at once.
Does not know: when ranks meet; the training loop says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from bedplate.core.errors import JobError
from bedplate.core.journal import JournalWriter
from bedplate.train.distributed import Group

FLUSH_EVERY_S = 1.0
FLUSH_ENTRIES = 512
LOSS = "loss"

Pending = tuple[int, str, torch.Tensor | float]


class MetricBuffer:
    """What `run.log` was given and has not been written yet. `last` holds the newest written value of each metric (rank 0)."""

    def __init__(self, journal: JournalWriter, group: Group, pending: Sequence[Pending] = ()) -> None:
        """`pending` are values that an earlier generation of this process could not write."""
        self.last: dict[str, float] = {}
        self._journal = journal
        self._group = group
        self.pending: list[Pending] = list(pending)
        self._losses: list[Pending] = []
        self._flushed_at_s = time.monotonic()

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Keep values of a step. Raises JobError for what is no single number."""
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                if value.numel() != 1:
                    raise JobError(f"metric {name!r} is not one number", value=tuple(value.shape), fix="log its mean")
                self.pending.append((step, name, value.detach()))
            else:
                try:
                    self.pending.append((step, name, float(value)))
                except (TypeError, ValueError):
                    raise JobError(f"metric {name!r} is not a number", value=value, fix="use run.tag for text") from None
            if name == LOSS:
                self._losses.append(self.pending[-1])

    def losses(self) -> list[tuple[int, float]]:
        """Values of the metric `loss` since the last call, by step. Waits for the device."""
        taken, self._losses = self._losses, []
        return [(step, value) for step, _, value in _resolved(taken)]

    def due(self) -> bool:
        """Whether values have waited long enough."""
        waited_s = time.monotonic() - self._flushed_at_s
        return bool(self.pending) and (waited_s >= FLUSH_EVERY_S or len(self.pending) >= FLUSH_ENTRIES)

    def flush(self) -> None:
        """Write means over the ranks that logged a value, one entry a step. Every rank calls this at the same place."""
        gathered = self._group.gather(json.dumps(_resolved(self.pending)).encode())
        self.pending = []
        self._flushed_at_s = time.monotonic()
        for step, values in sorted(_means(map(json.loads, gathered)).items()):
            self._journal.write("metric", values=values, step=step)
            self.last.update(values)


def _resolved(pending: Sequence[Pending]) -> list[tuple[int, str, float]]:
    tensors = [value.reshape(()).to(torch.float64) for _, _, value in pending if isinstance(value, torch.Tensor)]
    numbers = iter(torch.stack(tensors).tolist() if tensors else ())  # one wait for the device, however many values there are
    return [(step, name, next(numbers) if isinstance(value, torch.Tensor) else value) for step, name, value in pending]


def _means(ranks: Iterable[list[tuple[int, str, float]]]) -> dict[int, dict[str, float]]:
    of_ranks = [{(step, name): value for step, name, value in logged} for logged in ranks]
    means: dict[int, dict[str, float]] = {}
    for step, name in dict.fromkeys(key for logged in of_ranks for key in logged):
        values = [logged[step, name] for logged in of_ranks if (step, name) in logged]
        means.setdefault(step, {})[name] = sum(values) / len(values)
    return means
