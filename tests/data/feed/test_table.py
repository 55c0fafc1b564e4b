"""The feed: the same rows in the same order at any world size, exact resume, and no heavy import."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError, NotFound
from bedplate.core.protocols import Feed, FeedBatch
from bedplate.core.spec import Inputs, Split
from bedplate.data.feed import ShardFeed
from bedplate.data.training_set import build
from data.histories import DATASET, START, Row, table

ROWS = 100


def rows() -> list[Row]:
    """Rows whose label is their number in time."""
    base = {"carrier": "AA", "origin": "EWR", "slot": START, "happened_at": START, "_partition": 0}
    return [base | {"flight": n, "gain": float(n), "bags": n % 7, "_known_at": START + timedelta(minutes=n)} for n in range(ROWS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set of 70 train, 10 valid and 20 test rows."""
    path: Path = tmp_path_factory.mktemp("set")
    inputs = Inputs(spine="departures", columns=("bags", "carrier", "origin"), label="departures.gain")
    build(inputs, Split(), table(rows()), DATASET, table(rows()), [], path, lambda *_: None)
    return path


def labels(batches: list[FeedBatch]) -> list[float]:
    """The labels of batches, which number the rows."""
    return [label for batch in batches for label in batch.columns["gain"].tolist()]


def global_batches(feed: ShardFeed, world_size: int, **options: int) -> list[list[float]]:
    """What all ranks together see, batch by batch, in order of rank."""
    ranks = [list(feed.batches("train", rank=rank, world_size=world_size, **options)) for rank in range(world_size)]
    return [labels(list(parts)) for parts in zip(*ranks, strict=True)]


def test_it_is_a_feed(folder: Path) -> None:
    feed: Feed = ShardFeed(folder)
    assert {split: feed.rows(split) for split in ("train", "valid", "test")} == {"train": 70, "valid": 10, "test": 20}


def test_dtypes_and_shapes(folder: Path) -> None:
    batch = next(ShardFeed(folder).batches("train", batch_size=8, rank=0, world_size=2, epoch=0, seed=0))
    assert {name: (values.dtype.str, values.shape) for name, values in batch.columns.items()} == {
        "bags": ("<f8", (4,)),
        "gain": ("<f8", (4,)),
        "carrier": ("<i4", (4,)),
        "origin": ("<i4", (4,)),
    }


def test_columns_of_a_row_stay_together(folder: Path) -> None:
    for batch in ShardFeed(folder).batches("train", batch_size=10, rank=0, world_size=1, epoch=3, seed=1):
        assert (batch.columns["gain"] % 7 == batch.columns["bags"]).all()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_cover_the_same_order_disjointly(folder: Path, world_size: int) -> None:
    feed = ShardFeed(folder)
    alone = global_batches(feed, 1, batch_size=12, epoch=0, seed=5)
    assert global_batches(feed, world_size, batch_size=12, epoch=0, seed=5) == alone
    seen = [label for batch in alone for label in batch]
    assert len(seen) == len(set(seen)) == 60


def test_every_train_row_comes_once_an_epoch(folder: Path) -> None:
    seen = labels(list(ShardFeed(folder).batches("train", batch_size=7, rank=0, world_size=1, epoch=0, seed=0)))
    assert sorted(seen) == list(range(70))


@settings(max_examples=60, deadline=None)
@given(
    batches=st.integers(0, 7),
    before=st.sampled_from([1, 2, 4]),
    after=st.sampled_from([1, 2, 4, 8]),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 2**63),
)
def test_resume_is_exact_at_another_world_size(folder: Path, batches: int, before: int, after: int, epoch: int, seed: int) -> None:
    feed = ShardFeed(folder)
    whole = global_batches(feed, 1, batch_size=8, epoch=epoch, seed=seed)
    done = global_batches(feed, before, batch_size=8, epoch=epoch, seed=seed)[:batches]
    rest = global_batches(feed, after, batch_size=8, epoch=epoch, seed=seed, start=8 * batches)
    assert done + rest == whole


def test_resume_at_another_batch_size_goes_on_in_the_same_order(folder: Path) -> None:
    feed = ShardFeed(folder)
    whole = labels(list(feed.batches("train", batch_size=1, rank=0, world_size=1, epoch=0, seed=2)))
    rest = list(feed.batches("train", batch_size=5, rank=0, world_size=1, epoch=0, seed=2, start=24))
    assert labels(rest) == whole[24:69]


def test_position_counts_the_samples_of_all_ranks(folder: Path) -> None:
    batches = list(ShardFeed(folder).batches("train", batch_size=20, rank=1, world_size=2, epoch=4, seed=0, start=20))
    assert [(batch.epoch, batch.position) for batch in batches] == [(4, 40), (4, 60)]


def test_seed_and_epoch_change_the_order(folder: Path) -> None:
    feed = ShardFeed(folder)
    orders = [global_batches(feed, 1, batch_size=10, epoch=epoch, seed=seed) for epoch, seed in ((0, 0), (1, 0), (0, 1), (1, 1), (0, 0))]
    assert orders[0] == orders[4]
    assert len({str(order) for order in orders}) == 4


def test_valid_and_test_come_in_the_order_of_the_spine(folder: Path) -> None:
    feed = ShardFeed(folder)
    assert labels(list(feed.batches("valid", batch_size=5, rank=0, world_size=1, epoch=9, seed=9))) == list(range(70, 80))
    assert feed.columns("test")["gain"].tolist() == list(range(80, 100))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 10, "rank": 0, "world_size": 3, "seed": 0}, r"cannot share a batch evenly \(got 'batch_size 10, rank 0 of 3'\)"),
        ({"batch_size": 10, "rank": 2, "world_size": 2, "seed": 0}, "cannot share a batch evenly"),
        ({"batch_size": 0, "rank": 0, "world_size": 1, "seed": 0}, "cannot share a batch evenly"),
        ({"batch_size": 1, "rank": 0, "world_size": 1, "seed": -1}, "cannot be negative"),
    ],
)
def test_batches_that_cannot_be(folder: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ShardFeed(folder).batches("train", epoch=0, **options)


def test_unknown_names_have_nearest_ones(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no such split \(got 'validation'\).*'valid'"):
        ShardFeed(folder).rows("validation")
    with pytest.raises(DataError, match=r"no such categorical column \(got 'carier'\).*'carrier'"):
        ShardFeed(folder).dictionary("carier")


def test_a_damaged_or_missing_file_is_noticed(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    ShardFeed(tmp_path)
    data = bytearray((tmp_path / "numbers.f64").read_bytes())
    data[100] ^= 1
    (tmp_path / "numbers.f64").write_bytes(data)
    with pytest.raises(DataError, match=r"damaged \(got '.*numbers\.f64'\)"):
        ShardFeed(tmp_path)
    (tmp_path / "numbers.f64").unlink()
    with pytest.raises(DataError, match=r"missing \(got '.*numbers\.f64'\)"):
        ShardFeed(tmp_path)


def test_a_folder_without_a_manifest_is_no_training_set(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no training set"):
        ShardFeed(tmp_path)


FORKED = """
import os, sys, threading
from pathlib import Path
from bedplate.data.feed import ShardFeed
feed = ShardFeed(Path(sys.argv[1]))
heavy = {"pyarrow", "duckdb", "deltalake", "torch", "pandas"} & set(sys.modules)
assert not heavy, heavy
assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1, os.listdir("/proc/self/task")
child = os.fork()
if child == 0:
    again = ShardFeed(Path(sys.argv[1]))
    total = sum(batch.columns["gain"].sum() for batch in feed.batches("train", batch_size=7, rank=0, world_size=1, epoch=0, seed=0))
    os._exit(0 if total == again.columns("train")["gain"].sum() == 2415 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_it_needs_numpy_alone_starts_no_thread_and_survives_a_fork(folder: Path) -> None:
    environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(folder)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_order_of_a_seed_is_fixed() -> None:
    from bedplate.data.feed.table import _permutation

    assert _permutation(8, 3, 1).tolist() == np.random.default_rng(np.random.SeedSequence((3, 1))).permutation(8).tolist()


def test_a_plain_pass_gives_all_rows_in_order_the_last_batch_too(folder: Path) -> None:
    feed = ShardFeed(folder)
    batches = [batch["gain"].tolist() for batch in feed.in_order("test", 8)]
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert [label for batch in batches for label in batch] == list(range(80, 100))
    assert feed.counters()["bytes_read"] == 20 * (2 * 8 + 2 * 4)
    assert feed.tokenizer is None
