"""How much of a data-parallel model's communication was not hidden behind its backward pass.

torch's DistributedDataParallel times itself (`Logger` in torch/csrc/distributed/c10d/logger.cpp): the time from the first bucket's
all-reduce to the last one's end, and how much of it passed while gradients were still computed. The rest is exposed: the rank waits.
That wait is for the link, and for ranks that are slower: on a slow rank it is short, on all others it is long.
Does not know: models that are sharded by other means, which have no such timer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

READ_EVERY_S = 0.02  # reading costs 0.1 ms


class ExposedCommunication:
    """Reads the timer of one wrapped model after its backward passes."""

    def __init__(self, model: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        """`model` is a DistributedDataParallel; it is told to time every step, which on a CPU costs a few reads of the clock."""
        self._model = model
        self._clock = clock
        self._read_at_s = -READ_EVERY_S
        self._exposed_s = self._share = 0.0
        model._set_ddp_runtime_logging_sample_rate(1)

    def exposed_s(self, compute_s: float) -> float:
        """Seconds of the step's `compute_s` (forward and backward) that were spent waiting for other ranks.

        Steps that follow one another within 20 ms are not read anew: the share of the one before is taken for them.
        """
        now_s = self._clock()
        if now_s - self._read_at_s >= READ_EVERY_S:
            self._read_at_s = now_s
            told = self._model._get_ddp_logging_data()
            exposed_ns = told.get("backward_comm_time", 0) - told.get("backward_compute_comm_overlap_time", 0)
            self._exposed_s = max(0.0, min(exposed_ns / 1e9, compute_s))
            self._share = self._exposed_s / compute_s if compute_s > 0 else 0.0
            return self._exposed_s
        return self._share * compute_s
