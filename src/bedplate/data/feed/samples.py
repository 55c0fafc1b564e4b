"""The feed of derived records: tokens or images, mapped or streamed, shuffled, dealt to ranks and decoded ahead of the loop.

All state is in the iterator of an epoch: its place is the number of samples behind, and what is fetched ahead is thrown away with it.
The time that `next()` takes is the time for which the loop waits: prefetching happens in threads, which end with the iterator.
Does not know: tensors or devices, or how records are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.errors import DataError, NotFound
from bedplate.core.loading import Entry, load
from bedplate.core.protocols import Feed, FeedBatch, FeedSchema
from bedplate.data.feed.order import Order
from bedplate.data.feed.prefetch import ahead
from bedplate.data.feed.records import MANIFEST, Manifest, MappedShards, Records, Shards
from bedplate.data.feed.table import SPLITS, ShardFeed

CODECS: Mapping[str, Entry] = {
    "tokens": Entry("bedplate.data.feed.tokens:TokenCodec", "packed tokens"),
    "images": Entry("bedplate.data.feed.images:ImageCodec", "encoded images", extra="images"),
}
STREAM = {"stream": Entry("bedplate.data.feed.streamed:through_cache", "shards of a store, through the node's cache")}
THREADS: Mapping[str, int] = {"tokens": 0, "images": 2}  # copying a row of tokens takes less than handing it to a thread
TOKENIZER = "tokenizer.json"
AHEAD_SAMPLES = 4096
GATHERED_SAMPLES = 512


class SampleFeed:
    """Derived records by split. Implements `core.protocols.Feed`."""

    def __init__(self, folder: Path, manifest: Manifest, shards: Shards, workers: int | None = None) -> None:
        """`shards` opens what the manifest lists; `workers` threads decode (None: what suits the kind, 0: the caller's own)."""
        facts = manifest.facts
        self.schema = FeedSchema((), (), manifest.label, manifest.kind, dict(facts))
        self._folder = folder
        self._manifest = manifest
        self._shards = shards
        self._workers = THREADS[manifest.kind] if workers is None else workers
        self._records = {split: Records(manifest.shards(split), shards) for split in SPLITS}

    def rows(self, split: str) -> int:
        """How many samples a split ("train", "valid" or "test") has."""
        return len(self._of(split))

    def columns(self, split: str) -> Mapping[str, npt.NDArray[Any]]:
        """All samples of a split, whole, in the order in which they lie: for splits that fit into memory."""
        return self._read(self._of(split), np.arange(self.rows(split)))

    def dictionary(self, column: str) -> Sequence[str]:
        """The classes that the codes of the label stand for. Raises DataError when it has none."""
        classes: Sequence[str] = self._manifest.facts.get("classes") or ()
        if column != self.schema.label or not classes:
            raise DataError("the training set has no such categorical column", value=column, fix="ask for the label of an image set")
        return classes

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer's own JSON, None where there is none."""
        path = self._folder / TOKENIZER
        return path.read_text() if path.is_file() else None

    def in_order(self, split: str, batch_size: int) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
        """A split as it lies, whole, at most `batch_size` samples at a time."""
        records, rows = self._of(split), self.rows(split)
        order = Order(records.rows, seed=0, epoch=0, shuffled=False)
        spans = [np.arange(first, min(first + batch_size, rows)) for first in range(0, rows, batch_size)]
        yield from self._decoded(records, order, iter(spans))

    def batches(
        self, split: str, *, batch_size: int, rank: int, world_size: int, epoch: int, seed: int, start: int = 0
    ) -> Iterator[FeedBatch]:
        """The batches of one epoch for one rank, from global sample `start` on.

        Train samples come in an order drawn from (seed, epoch), others as they lie. A global batch is `batch_size` samples of that order;
        each rank takes its contiguous part, so the order does not depend on the world size. A rest smaller than a batch is left out.
        Raises DataError for a batch that the ranks cannot share evenly, and for a negative seed, epoch or start.
        """
        records = self._of(split)
        if batch_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
            fix = "make batch_size a multiple of world_size, and rank less than it"
            raise DataError("ranks cannot share a batch evenly", value=f"batch_size {batch_size}, rank {rank} of {world_size}", fix=fix)
        if min(seed, epoch, start) < 0:
            raise DataError("seed, epoch and start cannot be negative", value=f"{seed}, {epoch}, {start}", fix="count from 0")
        shuffled = split == "train"
        order = Order(records.rows, seed=seed, epoch=epoch, window=self._manifest.window, shuffled=shuffled)
        firsts = range(start, len(records) - batch_size + 1, batch_size)
        share = batch_size // world_size
        mine = (np.arange(first + rank * share, first + (rank + 1) * share) for first in firsts)
        return self._fed(records, order, mine, firsts, batch_size, epoch)

    def _fed(
        self, records: Records, order: Order, mine: Iterator[npt.NDArray[np.int64]], firsts: range, batch_size: int, epoch: int
    ) -> Iterator[FeedBatch]:
        for first, columns in zip(firsts, self._decoded(records, order, mine), strict=True):
            yield FeedBatch(epoch, first + batch_size, columns)

    def counters(self) -> Mapping[str, float]:
        """What was read since the start: `bytes_read`, `read_s` and, when streamed, `cache_hits`, `cache_misses`, `cache_passed`."""
        return self._shards.counters()

    def close(self) -> None:
        """Let go of files and threads."""
        self._shards.close()

    @cached_property
    def _codec(self) -> Any:
        return load(CODECS, self._manifest.kind, "kind of sample")(self._manifest)

    def _decoded(self, records: Records, order: Order, spans: Iterator[npt.NDArray[np.int64]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        placed = _placed(records, order, spans)
        if not self._workers:
            return self._gathered(records, placed)
        codec = self._codec  # imported before threads would do it at once
        assert codec is not None
        return ahead(lambda each: self._read(records, each), placed, workers=self._workers, depth=2 * self._workers)

    def _gathered(self, records: Records, placed: Iterator[npt.NDArray[np.int64]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Spans gathered together: hundreds of samples at once cost less than thirty at a time."""
        for group in _groups(placed, GATHERED_SAMPLES):
            yield from self._codec.batches(records, group)

    def _read(self, records: Records, numbers: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        columns: dict[str, npt.NDArray[Any]] = self._codec.columns(records, numbers)
        return columns

    def _of(self, split: str) -> Records:
        self._manifest.shards(split)
        return self._records[split]


def _placed(records: Records, order: Order, spans: Iterator[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.int64]]:
    """The records of each span, computed some thousand at a time."""
    for group in _groups(spans, AHEAD_SAMPLES):
        records.upcoming(order.shards(int(group[0][0])))
        placed = order.records(np.concatenate(group))
        yield from np.split(placed, np.cumsum([len(span) for span in group])[:-1])


def _groups(spans: Iterator[npt.NDArray[np.int64]], samples: int) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Spans, together at least `samples` but for the last."""
    group: list[npt.NDArray[np.int64]] = []
    for span in spans:
        group.append(span)
        if len(span) * len(group) >= samples:
            yield group
            group = []
    if group:
        yield group


def open_feed(folder: Path, cache: Path, cache_bytes: int) -> Feed:
    """The feed of a training set of any kind. One that lies in a store is read through the folder `cache`, of at most `cache_bytes`.

    Raises NotFound when there is none, DataError when a file is missing or damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound("there is no training set", value=str(folder), fix="run its training-set step")
    values = json.loads(path.read_bytes())
    if "kind" not in values:
        return ShardFeed(folder)
    manifest = Manifest.from_json(values)
    if manifest.store is None:
        return SampleFeed(folder, manifest, MappedShards(folder, manifest.record))
    return SampleFeed(folder, manifest, load(STREAM, "stream", "reader")(manifest, cache, cache_bytes))
