"""Shards of a store, read through the node's cache, a few of them ahead of the training loop.

A process keeps at most `keep` shards open; the least recently used go first, and nearly all when the cache has no room. When every file
in it is in use by others, a shard is read into memory past the cache: one that is too small makes a run slow, and never stops it.
Does not know: the order of records (it is told which shards come next), or what is in them.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import blake3
import numpy as np

from bedplate.core.errors import DataError
from bedplate.data.feed.cache import NodeCache, NoRoom
from bedplate.data.feed.records import Manifest, OpenShard, Shard
from bedplate.data.feed.store import Store, open_store

FETCHERS = 4
MOST_OPEN, MOST_AHEAD = 256, 32


class StreamedShards:
    """Implements `records.Shards`. Threads start with the first shard that is asked for, so one can be made before a fork."""

    def __init__(self, store: Store, cache: NodeCache, record: np.dtype[Any], *, keep: int = 64, ahead: int = 8) -> None:
        """`keep` shards are open at a time, and `ahead` more are fetched or being fetched before they are needed."""
        self._store = store
        self._cache = cache
        self._record = record
        self._keep = max(keep, 1)
        self._ahead = ahead
        self._wanted: list[Shard] = []
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenShard] = OrderedDict()
        self._coming: dict[str, Future[OpenShard]] = {}
        self._counts = {"bytes_read": 0.0, "read_s": 0.0, "cache_hits": 0.0, "cache_misses": 0.0, "cache_passed": 0.0}

    def open(self, shard: Shard) -> OpenShard:
        """The shard; waits for it. Raises DataError when it cannot be read or is damaged."""
        with self._lock:
            found = self._open.get(shard.digest)
            if found is not None:
                self._open.move_to_end(shard.digest)
                return found
            coming = self._asked(shard)
            self._top_up()
        try:
            opened = coming.result()
        finally:
            with self._lock:
                if self._coming.get(shard.digest) is coming:
                    del self._coming[shard.digest]
        with self._lock:
            return self._kept(shard.digest, opened)

    def upcoming(self, shards: Sequence[Shard]) -> None:
        """Fetch these in this order, `ahead` at a time. What was said before is forgotten, what was fetched for it is kept as used."""
        with self._lock:
            named = {shard.digest for shard in shards}
            for digest in [digest for digest, each in self._coming.items() if digest not in named and each.done()]:
                abandoned = self._coming.pop(digest)
                if abandoned.exception() is None:
                    self._kept(digest, abandoned.result())
            self._wanted = [shard for shard in reversed(shards) if shard.digest not in self._open]
            self._top_up()

    def _top_up(self) -> None:
        """Ask for what comes next while fewer than `ahead` are on their way. The lock is held."""
        while self._wanted and len(self._coming) < self._ahead:
            shard = self._wanted.pop()
            if shard.digest not in self._open:
                self._asked(shard)

    def counters(self) -> dict[str, float]:
        """Bytes from the store, seconds that fetchers spent on them, and what the cache did; `cache_passed`: there was no room in it."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Wait for what is being fetched, and let go of all shards."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        for coming in self._coming.values():
            if not coming.cancelled() and coming.exception() is None:
                coming.result().close()
        self._coming.clear()
        while self._open:
            self._open.popitem()[1].close()

    def _asked(self, shard: Shard) -> Future[OpenShard]:
        """The shard on its way. The lock is held."""
        coming = self._coming.get(shard.digest)
        if coming is None:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(FETCHERS, "bedplate-feed")
            coming = self._coming[shard.digest] = self._pool.submit(self._fetched, shard)
        return coming

    def _kept(self, digest: str, opened: OpenShard) -> OpenShard:
        """The shard among the open ones; the same when another thread was first. The lock is held."""
        kept = self._open.setdefault(digest, opened)
        if kept is not opened:
            opened.close()
        self._open.move_to_end(digest)
        self._let_go(self._keep)
        return kept

    def _let_go(self, keep: int) -> None:
        """Close the least recently used until `keep` are open. The lock is held."""
        while len(self._open) > keep:
            self._open.popitem(last=False)[1].close()

    def _fetched(self, shard: Shard) -> OpenShard:
        try:
            descriptor, hit = self._cached(shard)
        except NoRoom:
            self._count(cache_passed=1)
            return self._in_memory(shard)
        self._count(cache_hits=float(hit), cache_misses=float(not hit))
        try:
            buffer: Any = mmap.mmap(descriptor, shard.size_bytes, access=mmap.ACCESS_READ) if shard.size_bytes else b""
            return OpenShard(self._record, shard, buffer, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _cached(self, shard: Shard) -> tuple[int, bool]:
        try:
            return self._cache.open(shard.name, shard.digest, shard.size_bytes, lambda: self._arriving(shard))
        except NoRoom:
            with self._lock:
                self._let_go(1)  # our own pins may be what is in the way
            return self._cache.open(shard.name, shard.digest, shard.size_bytes, lambda: self._arriving(shard))

    def _in_memory(self, shard: Shard) -> OpenShard:
        data = b"".join(self._arriving(shard))
        if blake3.blake3(data).hexdigest() != shard.digest:
            raise DataError("a fetched file is damaged", value=shard.name, fix="derive the training set again, with --force")
        return OpenShard(self._record, shard, data)

    def _arriving(self, shard: Shard) -> Iterator[bytes]:
        began_s = time.perf_counter()
        for chunk in self._store.chunks(shard.name):
            self._count(bytes_read=len(chunk), read_s=time.perf_counter() - began_s)
            yield chunk
            began_s = time.perf_counter()

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, value in more.items():
                self._counts[name] += value


def through_cache(manifest: Manifest, folder: Path, limit_bytes: int) -> StreamedShards:
    """The shards of a manifest that lies in a store, through the cache in `folder`, which may take `limit_bytes`.

    Half the cache, at most, is held open by one process; a window of shards is fetched ahead.
    """
    assert manifest.store is not None
    largest = max((shard.size_bytes for shards in manifest.splits.values() for shard in shards), default=1)
    keep = max(2, min(MOST_OPEN, limit_bytes // (2 * largest)))
    ahead = max(2, min(manifest.window or MOST_AHEAD, MOST_AHEAD, keep // 2))
    cache = NodeCache(folder, limit_bytes)
    return StreamedShards(open_store(manifest.store), cache, manifest.record, keep=keep, ahead=ahead)
