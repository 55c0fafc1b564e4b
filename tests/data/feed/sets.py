"""What the tests of the feed share: token sets whose records are numbered, in shards of a few records."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bedplate.data.feed.derived import Derived, ShardWriter, derive
from bedplate.data.feed.records import Manifest

SEQUENCE = 3
SPLITS = ("train", "valid", "test")


def numbered(root: Path, rows: int = 100, per_shard: int = 7, window: int | None = None, valid: int = 5) -> Derived:
    """A token set: record n of "train" is n, n, n, n; "valid" goes on counting."""

    def write(folder: Path) -> Manifest:
        dtype = [["tokens", "<u2", [SEQUENCE + 1]]]
        manifest = Manifest("tokens", dtype, {}, {"sequence": SEQUENCE}, window=window)
        writer = ShardWriter(folder, manifest.record, per_shard * manifest.record.itemsize)
        for split, first, count in (("train", 0, rows), ("valid", rows, valid)):
            records = np.empty(count, manifest.record)
            records["tokens"] = np.arange(first, first + count)[:, None]
            writer.add(split, records)
        return Manifest("tokens", dtype, writer.end(SPLITS), {"sequence": SEQUENCE, "vocabulary": 65536, "end": 0}, window=window)

    return derive(root, {"rows": rows, "per_shard": per_shard, "window": window}, write)
