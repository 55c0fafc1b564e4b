"""What the gate measures itself: how long one prediction takes, and how large a version is.

Does not know: HTTP or features looked up online; a latency here is that of `predict` alone, one row at a time, in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 5
Row = Mapping[str, Any]


def latencies_s(predict: Callable[[Sequence[Row]], Any], rows: Sequence[Row]) -> dict[str, float]:
    """`latency_p50_s`, `latency_p90_s` and `latency_p99_s`: seconds of a prediction for each of `rows`, one by one, once it is warm."""
    for row in rows[:WARM_UP]:
        predict([row])
    taken_s = np.empty(len(rows))
    for place, row in enumerate(rows):
        started_s = time.perf_counter()
        predict([row])
        taken_s[place] = time.perf_counter() - started_s
    return {f"latency_p{percent}_s": float(np.percentile(taken_s, percent)) for percent in (50, 90, 99)}


def size_bytes(folder: Path) -> float:
    """The bytes of all files of a version."""
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
