"""The feed of samples: every sample once an epoch at any world size and after any resume, with windows too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError, NotFound
from bedplate.core.protocols import Feed, FeedBatch
from bedplate.data.feed.samples import SampleFeed, open_feed
from data.feed.sets import numbered


@pytest.fixture(scope="module", params=[None, 2])
def feed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """100 training samples in shards of 7, shuffled among all shards and among two."""
    root = tmp_path_factory.mktemp("set")
    return open_feed(numbered(root, window=request.param).folder, root / "cache", 1)


def seen(batches: list[FeedBatch]) -> list[int]:
    return [int(number) for batch in batches for number in batch.columns["tokens"][:, 0]]


def of_all_ranks(feed: Feed, world_size: int, **options: int) -> list[list[int]]:
    """What all ranks together see, batch by batch, in order of rank."""
    ranks = [list(feed.batches("train", rank=rank, world_size=world_size, **options)) for rank in range(world_size)]
    return [seen(list(parts)) for parts in zip(*ranks, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    done=st.integers(0, 12),
    before=st.sampled_from([1, 2, 4]),
    after=st.sampled_from([1, 2, 4, 8]),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2**63),
)
def test_no_sample_twice_or_missing_at_any_world_size_and_after_any_resume(
    feed: Feed, done: int, before: int, after: int, epoch: int, seed: int
) -> None:
    whole = of_all_ranks(feed, 1, batch_size=8, epoch=epoch, seed=seed)
    first = of_all_ranks(feed, before, batch_size=8, epoch=epoch, seed=seed)[:done]
    rest = of_all_ranks(feed, after, batch_size=8, epoch=epoch, seed=seed, start=8 * done)
    assert first + rest == whole
    flat = [number for batch in whole for number in batch]
    assert len(set(flat)) == len(flat) == 96


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 100), seed=st.integers(0, 2**63))
def test_it_goes_on_at_any_sample(feed: Feed, start: int, seed: int) -> None:
    whole = seen(list(feed.batches("train", batch_size=1, rank=0, world_size=1, epoch=0, seed=seed)))
    rest = seen(list(feed.batches("train", batch_size=1, rank=0, world_size=1, epoch=0, seed=seed, start=start)))
    assert sorted(whole) == list(range(100))
    assert rest == whole[start:]


def test_a_sample_is_whole_and_positions_count_the_samples_of_all_ranks(feed: Feed) -> None:
    batches = list(feed.batches("train", batch_size=20, rank=1, world_size=2, epoch=4, seed=0, start=20))
    assert [(batch.epoch, batch.position) for batch in batches] == [(4, 40), (4, 60), (4, 80), (4, 100)]
    assert batches[0].columns["tokens"].dtype.str == "<i8"
    assert all((batch.columns["tokens"] == batch.columns["tokens"][:, :1]).all() for batch in batches)


def test_valid_comes_as_it_lies(feed: Feed) -> None:
    assert seen(list(feed.batches("valid", batch_size=2, rank=0, world_size=1, epoch=1, seed=1))) == [100, 101, 102, 103]
    assert [batch["tokens"][:, 0].tolist() for batch in feed.in_order("valid", 2)] == [[100, 101], [102, 103], [104]]
    assert feed.columns("valid")["tokens"].shape == (5, 4)
    assert feed.rows("test") == 0
    assert list(feed.in_order("test", 4)) == []


def test_iterators_do_not_disturb_one_another(feed: Feed) -> None:
    alone = seen(list(feed.batches("train", batch_size=10, rank=0, world_size=1, epoch=0, seed=1)))
    one = feed.batches("train", batch_size=10, rank=0, world_size=1, epoch=0, seed=1)
    two = feed.batches("train", batch_size=10, rank=0, world_size=1, epoch=0, seed=1)
    both = [(next(one), next(two)) for _ in range(10)]
    assert seen([first for first, _ in both]) == seen([second for _, second in both]) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10, "rank": 0, "world_size": 3, "seed": 0}, r"cannot share a batch evenly \(got 'batch_size 10, rank 0 of 3'\)"),
        ({"batch_size": 10, "rank": 2, "world_size": 2, "seed": 0}, "cannot share a batch evenly"),
        ({"batch_size": 1, "rank": 0, "world_size": 1, "seed": -1}, "cannot be negative"),
    ],
)
def test_batches_that_cannot_be(feed: Feed, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        feed.batches("train", epoch=0, **options)


def test_names_that_are_not_there(feed: Feed) -> None:
    with pytest.raises(DataError, match=r"no such split \(got 'validation'\).*'valid'"):
        feed.rows("validation")
    with pytest.raises(DataError, match="no such categorical column"):
        feed.dictionary("tokens")


def test_a_damaged_or_missing_shard_is_noticed(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    shard = made.folder / made.manifest.shards("train")[3].name
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="a shard of a training set is damaged"):
        open_feed(made.folder, tmp_path, 1).columns("train")
    shard.unlink()
    with pytest.raises(DataError, match="a shard of a training set is missing"):
        open_feed(made.folder, tmp_path, 1).columns("train")


def test_a_folder_without_a_manifest_is_no_training_set(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no training set"):
        open_feed(tmp_path, tmp_path, 1)


def test_what_was_read_is_counted(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    feed = open_feed(made.folder, tmp_path, 1)
    assert isinstance(feed, SampleFeed)
    assert feed.counters() == {"bytes_read": 0.0, "read_s": 0.0}
    feed.columns("train")
    assert feed.counters()["bytes_read"] == 100 * 4 * 2
    feed.close()
