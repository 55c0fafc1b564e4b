"""The mean loss over a split, without gradients: under any mesh every rank of a copy of the model does its part.

Does not know: how a loss is computed under a mesh (`parallel`), or where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from bedplate.core.errors import JobError

T = TypeVar("T")


@contextmanager
def resting(*models: nn.Module) -> Iterator[None]:
    """No gradients, and modules in the mode of evaluation; behind it each is in the mode in which it was."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def mean_loss(batches: Iterable[tuple[int, T]], measure: Callable[[T], torch.Tensor], place: int, places: int) -> float:
    """The mean of `measure` (a mean over a batch's rows) over all rows of `batches`, pairs of a number of rows and a batch.

    Batches go in turn to the `places` copies of the model, of which this rank belongs to number `place`; those left over at the end are
    measured by all, so that every rank calls `measure` equally often. Every rank calls this. Raises JobError for no rows.
    """
    waiting: list[tuple[int, T]] = []
    total, rows = 0.0, 0.0
    for each in batches:
        waiting.append(each)
        if len(waiting) == places:
            count, batch = waiting[place]
            total, rows = total + float(measure(batch)) * count, rows + count
            waiting = []
    for count, batch in waiting:
        total, rows = total + float(measure(batch)) * count / places, rows + count / places
    sums = torch.tensor([total, rows], dtype=torch.float64)
    if places > 1:
        dist.all_reduce(sums)  # ranks that share a copy have the same sums, each counted as often as any other
    if not sums[1]:
        raise JobError("there are no rows to evaluate on", fix="give the split a share of the rows")
    return float(sums[0] / sums[1])
