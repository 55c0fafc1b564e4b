"""Where a large file is cut into chunks: by its content, so that an insertion moves the cuts behind it instead of spoiling them.

A cut lies at the least value of a hash of eight bytes within the WINDOW_BYTES that follow LEAST_BYTES after the cut before. Every content
has a minimum, structured or not, and only one byte in 17 is looked at: that is what keeps up with BLAKE3. An edit is forgotten when both
sides take the same minimum, after some 17 chunks on average.
Source: the local-extremum rule of AE (Zhang et al., INFOCOM 2015) and the minimum skip of FastCDC (Xia et al., ATC 2016).
Does not know: files or digests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

LEAST_BYTES = 1 << 20
WINDOW_BYTES = 1 << 16
WORD_BYTES = 8
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: spreads words that differ in few bits


def ends(nbytes: int, read: Callable[[int, int], bytes], begin: int = 0) -> Iterator[int]:
    """Where the chunks end of a content of `nbytes` of which the first begins at `begin`. `read(at, count)` gives bytes of it.

    A chunk has LEAST_BYTES to LEAST_BYTES + WINDOW_BYTES + 8; the last one has what is left where that is too little to look for a cut.
    """
    scratch = np.empty(WINDOW_BYTES // WORD_BYTES, np.uint64)
    end = begin
    while end < nbytes:
        first = end + LEAST_BYTES
        small = nbytes - first < WINDOW_BYTES + WORD_BYTES
        end = nbytes if small else first + _least(read(first, WINDOW_BYTES + WORD_BYTES), scratch)
        yield end


def _least(window: bytes, scratch: npt.NDArray[np.uint64]) -> int:
    """Where the least hash of a window lies, the first of equals."""
    found = []
    for offset in range(WORD_BYTES):
        np.multiply(np.frombuffer(window, "<u8", WINDOW_BYTES // WORD_BYTES, offset), MULTIPLIER, out=scratch)
        number = int(scratch.argmin())
        found.append((int(scratch[number]), offset + number * WORD_BYTES))
    return min(found)[1]
