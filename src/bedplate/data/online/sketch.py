"""How many distinct values there are, from the smallest hashes (KMV): exact below K, then an estimate from the K-th smallest.

Bar-Yossef et al., Counting distinct elements in a data stream (2002); the unbiased (K - 1) / v of Beyer et al. (2007).
Does not know: values, windows or stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import numpy as np
import numpy.typing as npt

K = 256
Hashes = npt.NDArray[np.uint64]


def hashes(values: Sequence[bytes]) -> Hashes:
    """The first 8 bytes of BLAKE3 of each value's canonical text, little-endian."""
    return np.array([int.from_bytes(blake3.blake3(value).digest(8), "little") for value in values], np.uint64)


def smallest(found: Hashes) -> Hashes:
    """The K smallest of the distinct hashes, sorted."""
    kept: Hashes = np.unique(found)[:K]
    return kept


def estimate(kept: Hashes) -> int:
    """How many distinct values the K smallest hashes speak of, as a whole number."""
    if len(kept) < K:
        return len(kept)
    return round((K - 1) / ((int(kept[K - 1]) + 1) / 2**64))
