"""Where a large file is cut into chunks: by its content, so that an insertion moves the cuts behind it instead of spoiling them.

A cut lies at the least value of a hash of eight bytes within the WINDOW_BYTES that follow LEAST_BYTES after the cut before. Every content
has a minimum, structured or not, and only one byte in 17 is looked at: that is what keeps up with BLAKE3. An edit is forgotten when both
sides take the same minimum, after some 17 chunks on average.
Source: the local-extremum rule of AE (Zhang et al., INFOCOM 2015) and the minimum skip of FastCDC (Xia et al., ATC 2016).
Does not know: files or digests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 1 << 20
WINDOW_BYTES = 1 << 16
WORD_BYTES = 8
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads words that differ in few bits


def cut_after(data: Any, begin: int, scratch: npt.NDArray[np.uint64]) -> int:
    """The end of the chunk of `data` (a buffer) that begins at `begin`, in bytes; what is left where that is too little to look for a cut.

    `scratch` holds WINDOW_BYTES / 8 words. A chunk has LEAST_BYTES to LEAST_BYTES + WINDOW_BYTES + 8.
    """
    nbytes = len(data)
    first = begin + LEAST_BYTES
    if nbytes - first < WINDOW_BYTES + WORD_BYTES:
        return nbytes
    least, best = None, first
    for offset in range(WORD_BYTES):
        words = np.frombuffer(data, "<u8", WINDOW_BYTES // WORD_BYTES, first + offset)
        np.multiply(words, MULTIPLIER, out=scratch)
        number = int(scratch.argmin())
        value, place = int(scratch[number]), first + offset + number * WORD_BYTES
        if least is None or (value, place) < (least, best):
            least, best = value, place
    return best


def scratch() -> npt.NDArray[np.uint64]:
    """What one thread computes in."""
    return np.empty(WINDOW_BYTES // WORD_BYTES, np.uint64)
