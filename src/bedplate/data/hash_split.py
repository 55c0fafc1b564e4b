"""Splits by content, for documents and images that have no time: a seeded hash says where each belongs.

Does not know: splits by time (`training_set.time_split`), or what the content is.
"""

from __future__ import annotations

import blake3

from bedplate.core.spec import Split
from bedplate.data.feed.table import SPLITS


def hashed_split(content: bytes, split: Split, seed: int) -> int:
    """The split that a seeded hash of the content gives: equal content is in one split, and a split has its fraction of the rest."""
    part = int.from_bytes(blake3.blake3(seed.to_bytes(16, "little") + content).digest(length=8), "little") / 2**64
    return SPLITS.index("test" if part < split.test else "valid" if part < split.test + split.valid else "train")
