"""Work on columns in threads: stretches of rows, one a core or small enough for a core's cache, and what is gathered by row.

For numpy and Arrow, which let other threads run while they compute.
Does not know: what the rows are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

THREADED_ROWS = 1 << 16  # fewer rows are done before a thread has started
BLOCK_ROWS = 1 << 16


def cores() -> int:
    """How many threads compute at once."""
    return os.cpu_count() or 1


def in_threads(work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """`work` of each part, a thread a core; the results in order of parts. Raises what the first part that failed raised."""
    if len(parts) == 1:
        return [work(parts[0])]
    with ThreadPoolExecutor(max(1, min(len(parts), cores()))) as pool:
        return list(pool.map(work, parts))


def stretches(count: int) -> list[slice]:
    """The rows in as many stretches as there are cores; few rows in one."""
    parts = cores() if count >= THREADED_ROWS else 1
    return [slice(*pair) for pair in pairwise(count * number // parts for number in range(parts + 1))]


def blocks(count: int) -> list[slice]:
    """The rows in stretches that fit a core's cache."""
    return [slice(first, min(first + BLOCK_ROWS, count)) for first in range(0, count, BLOCK_ROWS)]


def gathered(values: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """`values[rows]`. Rows must be in range: what is not is not noticed."""
    found = np.empty(len(rows), values.dtype)
    in_threads(lambda part: np.take(values, rows[part], out=found[part], mode="clip"), blocks(len(rows)))  # to "raise" is to copy first
    return found
