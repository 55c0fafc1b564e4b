"""A table's feed: a training set's shards as arrays, memory-mapped, in the same order for a seed at any world size.

Files of a training set, little-endian and row-major: `numbers.f64` [rows, numeric columns then the label], NaN for null;
`codes.i32` [rows, categorical columns], -1 for null; `split.i8` [rows], an index into SPLITS or -1 for a row that is in none; `at.i64`,
`partition.i64` and `offset.i64` [rows], when a row was known (microseconds, UTC; the least int64 for never) and where it came from.
`manifest.json` has the schema and the digest of every file.

Rows lie side by side because a batch takes whole rows: gathering 4,096 rows of 30 columns took 0.3 ms so and 1.3 ms from a file a column.
Opened in processes that fork later: numpy only, and no threads.
Does not know: how the rows were made (`data.training_set`), tensors or devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from bedplate.core.errors import DataError, NotFound, nearest
from bedplate.core.protocols import FeedBatch, FeedSchema

MANIFEST = "manifest.json"
SPLITS = ("train", "valid", "test")
NUMBERS, CODES, SPLIT, AT, PLACE = "numbers.f64", "codes.i32", "split.i8", "at.i64", ("partition.i64", "offset.i64")
DICTIONARIES = "dictionaries.json"
NEVER_US = -(2**63)


class ShardFeed:
    """A training set's rows by split. Implements `core.protocols.Feed`."""

    def __init__(self, folder: Path) -> None:
        """Open the training set in `folder` and check the digest of every file.

        Raises NotFound when there is none, DataError when a file is missing or damaged.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise NotFound("there is no training set", value=str(folder), fix="run its training-set step")
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        for name, digest in manifest["files"].items():
            _verify(folder / name, digest)
        shape = manifest["schema"]
        self.schema = FeedSchema(tuple(shape["numeric"]), tuple(shape["categorical"]), shape["label"])
        rows = int(manifest["rows"])
        self._numbers = _mapped(folder / NUMBERS, "<f8", rows, len(self.schema.numeric) + 1)
        self._codes = _mapped(folder / CODES, "<i4", rows, len(self.schema.categorical))
        self._dictionaries: Mapping[str, Sequence[str]] = json.loads((folder / DICTIONARIES).read_bytes())
        split = _mapped(folder / SPLIT, "<i1", rows, 1)[:, 0]
        self._gathered_bytes = 0
        self._rows = {name: np.flatnonzero(split == code) for code, name in enumerate(SPLITS)}

    def rows(self, split: str) -> int:
        """How many labelled rows a split ("train", "valid" or "test") has."""
        return len(self._of(split))

    def columns(self, split: str) -> Mapping[str, npt.NDArray[Any]]:
        """All columns of a split, whole and in the spine's order: float64 and int32, each of shape [rows]."""
        return self._gather(self._of(split))

    def dictionary(self, column: str) -> Sequence[str]:
        """The strings that the codes of a categorical column stand for. Raises DataError when it is none."""
        if column not in self._dictionaries:
            raise DataError("the training set has no such categorical column", value=column, fix=nearest(column, self._dictionaries))
        return self._dictionaries[column]

    @property
    def tokenizer(self) -> None:
        """None: a table has no tokens."""

    def counters(self) -> Mapping[str, float]:
        """The bytes that were gathered. All of them are in the kernel's page cache since they were verified: there is no wait."""
        return {"bytes_read": float(self._gathered_bytes), "read_s": 0.0}

    def in_order(self, split: str, batch_size: int) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        """A split in the spine's order, whole, at most `batch_size` rows at a time."""
        rows = self._of(split)
        for first in range(0, len(rows), batch_size):
            yield self._gather(rows[first : first + batch_size])

    def batches(
        self, split: str, *, batch_size: int, rank: int, world_size: int, epoch: int, seed: int, start: int = 0
    ) -> Iterator[FeedBatch]:
        """The batches of one epoch for one rank, from global sample `start` on.

        Train rows come in an order drawn from (seed, epoch), others in the spine's order. A global batch is `batch_size` samples of that
        order; each rank takes its contiguous part, so the order does not depend on the world size. A rest smaller than a batch is left out.
        Raises DataError for a batch that the ranks cannot share evenly, and for a negative seed, epoch or start.
        """
        rows = self._of(split)
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            fix = "make batch_size a multiple of world_size, and rank less than it"
            raise DataError("ranks cannot share a batch evenly", value=f"batch_size {batch_size}, rank {rank} of {world_size}", fix=fix)
        if min(seed, epoch, start) < 0:
            raise DataError("seed, epoch and start cannot be negative", value=f"{seed}, {epoch}, {start}", fix="count from 0")
        order = rows[_permutation(len(rows), seed, epoch)] if split == "train" else rows
        return self._parts(order, batch_size, rank, world_size, epoch, start)

    def _parts(self, order: npt.NDArray[Any], batch_size: int, rank: int, world_size: int, epoch: int, start: int) -> Iterator[FeedBatch]:
        share = batch_size // world_size
        for first in range(start, len(order) - batch_size + 1, batch_size):
            mine = order[first + rank * share : first + (rank + 1) * share]
            yield FeedBatch(epoch, first + batch_size, self._gather(mine))

    def _gather(self, rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        numbers = np.ascontiguousarray(self._numbers.take(rows, axis=0).T)
        codes = np.ascontiguousarray(self._codes.take(rows, axis=0).T)
        self._gathered_bytes += numbers.nbytes + codes.nbytes
        columns = dict(zip((*self.schema.numeric, self.schema.label), numbers, strict=True))
        return columns | dict(zip(self.schema.categorical, codes, strict=True))

    def _of(self, split: str) -> npt.NDArray[Any]:
        if split not in self._rows:
            raise DataError("no such split", value=split, fix=nearest(split, SPLITS))
        return self._rows[split]


def _permutation(count: int, seed: int, epoch: int) -> npt.NDArray[Any]:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch)))).permutation(count)


def _mapped(path: Path, dtype: str, rows: int, columns: int) -> npt.NDArray[Any]:
    if not rows * columns:
        return np.empty((rows, columns), dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, dtype, "r", shape=(rows, columns)))


def _verify(path: Path, digest: str) -> None:
    fix = "run the training-set step again with --force"
    if not path.is_file():
        raise DataError("a file of a training set is missing", value=str(path), fix=fix)
    hasher = blake3.blake3()
    hasher.update_mmap(path)
    if hasher.hexdigest() != digest:
        raise DataError("a file of a training set is damaged", value=str(path), fix=fix)
