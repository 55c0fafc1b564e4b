"""Watching the loss: what is no number, and what is far above the losses before it.

Does not know: where losses come from, or what is done about a bad one.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

REMEMBERED = 64
BEFORE_A_SPIKE = 16  # so many losses must be known before one can be called a spike


class LossWatch:
    """The recent losses of one rank. With `spike`, a loss is bad that is that many times the median of the last 64 good ones, or more."""

    def __init__(self, spike: float | None = None) -> None:
        self._spike = spike
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def is_bad(self, loss: float) -> bool:
        """Whether this loss is NaN, infinite or a spike; a good one is remembered."""
        if not math.isfinite(loss):
            return True
        known = len(self._recent) >= BEFORE_A_SPIKE
        if self._spike is not None and known and loss >= self._spike * abs(statistics.median(self._recent)) > 0:
            return True
        self._recent.append(loss)
        return False
