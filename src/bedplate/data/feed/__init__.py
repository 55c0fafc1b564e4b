"""The feed: from what a step derived to training batches, in an order that a seed gives and a world size does not change.

Does not know: tensors or devices. Its modules: `table` (rows of columns), `samples` (tokens, images), `order`, `records`, `derived`,
`streamed`, `cache`, `store`, `prefetch`.
"""

from bedplate.data.feed.table import (
    AT,
    CODES,
    DICTIONARIES,
    MANIFEST,
    NEVER_US,
    NUMBERS,
    PLACE,
    SPLIT,
    SPLITS,
    ShardFeed,
)

__all__ = ["AT", "CODES", "DICTIONARIES", "MANIFEST", "NEVER_US", "NUMBERS", "PLACE", "SPLIT", "SPLITS", "ShardFeed"]
