"""Streaming: the same batches as from mapped shards, whatever the cache holds, and a cache that is too small stops nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bedplate.core.errors import DataError
from bedplate.core.protocols import Feed
from bedplate.data.feed.cache import NodeCache
from bedplate.data.feed.derived import publish
from bedplate.data.feed.samples import open_feed
from bedplate.data.feed.store import FolderStore, open_store
from bedplate.data.feed.streamed import StreamedShards
from data.feed.sets import numbered
from servers.testbed.provide import provide
from servers.testbed.s3 import S3, s3


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[S3]:
    with provide(s3()) as server:
        yield server


def environment(server: S3) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


def epoch(feed: Feed, **options: int) -> list[list[int]]:
    given = {"rank": 0, "world_size": 1, "epoch": 1, "seed": 7} | options
    return [batch.columns["tokens"][:, 0].tolist() for batch in feed.batches("train", batch_size=8, **given)]


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("limit", [10**6, 300, 10])
def test_batches_are_those_of_mapped_shards_with_any_cache(tmp_path: Path, window: int | None, limit: int) -> None:
    made = numbered(tmp_path / "derived", window=window)
    away = publish(made, open_store(str(tmp_path / "away")), tmp_path / "out")
    expected = epoch(open_feed(made.folder, tmp_path, 1))
    feed = open_feed(away.folder, tmp_path / "cache", limit)
    assert epoch(feed) == expected
    assert epoch(feed, start=40) == expected[5:]
    feed.close()
    counts = feed.counters()
    assert counts["bytes_read"] >= 800
    assert counts["cache_passed"] == 0 if limit == 10**6 else limit != 10 or counts["cache_hits"] == 0
    assert NodeCache(tmp_path / "cache", limit).size_bytes() <= limit


def test_the_second_process_of_a_node_finds_what_the_first_fetched(tmp_path: Path) -> None:
    away = publish(numbered(tmp_path / "derived"), open_store(str(tmp_path / "away")), tmp_path / "out")
    first = open_feed(away.folder, tmp_path / "cache", 10**6)
    epoch(first)
    shutil.rmtree(tmp_path / "away")
    second = open_feed(away.folder, tmp_path / "cache", 10**6)
    assert len(epoch(second)) == 12
    assert second.counters() == {"bytes_read": 0.0, "read_s": 0.0, "cache_hits": 15.0, "cache_misses": 0.0, "cache_passed": 0.0}
    for feed in (first, second):
        feed.close()


def test_an_epoch_of_windows_fetches_each_shard_once_through_a_cache_of_few(tmp_path: Path) -> None:
    away = publish(numbered(tmp_path / "derived", window=2), open_store(str(tmp_path / "away")), tmp_path / "out")
    feed = open_feed(away.folder, tmp_path / "cache", 10 * 56)  # of 15 shards of 56 bytes, ten
    epoch(feed)
    feed.close()
    assert feed.counters()["bytes_read"] == 800
    assert feed.counters()["cache_passed"] == 0


def test_a_shard_that_is_missing_or_damaged_in_the_store_is_an_error_of_the_loop(tmp_path: Path) -> None:
    made = numbered(tmp_path / "derived")
    away = publish(made, open_store(str(tmp_path / "away")), tmp_path / "out")
    victim = tmp_path / "away" / made.manifest.shards("train")[4].name
    victim.write_bytes(b"x" * victim.stat().st_size)
    for limit in (10**6, 10):
        feed = open_feed(away.folder, tmp_path / f"cache-{limit}", limit)
        with pytest.raises(DataError, match=rf"a fetched file is damaged \(got '{victim.name}'\)"):
            epoch(feed)
        feed.close()
    victim.unlink()
    feed = open_feed(away.folder, tmp_path / "cache", 10**6)
    with pytest.raises(DataError, match=rf"cannot be read.*{victim.name}"):
        epoch(feed)
    feed.close()


def test_what_comes_next_is_fetched_ahead_and_no_more_than_that(tmp_path: Path) -> None:
    made = numbered(tmp_path / "derived")
    away = publish(made, open_store(str(tmp_path / "away")), tmp_path / "out")
    shards = StreamedShards(FolderStore(tmp_path / "away"), NodeCache(tmp_path / "cache", 10**6), away.manifest.record, keep=4, ahead=3)
    listed = away.manifest.shards("train")
    shards.upcoming(listed)
    for shard in listed[:3]:
        shards.open(shard)
    shards.close()
    assert 3 <= shards.counters()["cache_misses"] <= 6
    again = StreamedShards(FolderStore(tmp_path / "away"), NodeCache(tmp_path / "cache", 10**6), away.manifest.record, keep=4, ahead=3)
    assert np.array_equal(again.open(listed[0]).records["tokens"][:, 0], np.arange(7))
    assert again.counters()["cache_hits"] == 1
    again.close()


def test_from_an_object_store(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    made = numbered(tmp_path / "derived", window=3)
    away = publish(made, open_store("s3://training/sets/one"), tmp_path / "out")
    feed = open_feed(away.folder, tmp_path / "cache", 10**6)
    assert epoch(feed) == epoch(open_feed(made.folder, tmp_path, 1))
    assert feed.counters()["bytes_read"] == 800
    feed.close()
    store = open_store("s3://training/sets/one")
    shard = made.manifest.shards("train")[0]
    assert store.has(shard.name, shard.size_bytes)
    assert not store.has(shard.name, 1)
    assert not store.has("other", 1)
    gone = replace(shard, digest="0" * 64)
    with pytest.raises(DataError, match=r"s3://training/sets/one cannot be read"):
        list(store.chunks(gone.name))


def test_with_the_wrong_credentials(server: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (environment(server) | {"AWS_SECRET_ACCESS_KEY": "0" * 40}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_bytes(b"x")
    store = open_store("s3://training/sets/one")
    with pytest.raises(DataError, match=r"cannot be written.*check its credentials"):
        store.put("file", tmp_path / "file")
    with pytest.raises(DataError, match="cannot be read"):
        store.has("file", 1)
