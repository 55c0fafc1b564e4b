"""Records and manifests: what is written is read, wherever a record lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.feed.derived import Derived
from bedplate.data.feed.records import Manifest, MappedShards, OpenShard, Records, Shard, mapped
from data.feed.sets import numbered


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Derived:
    return numbered(tmp_path_factory.mktemp("set"))


def test_a_manifest_survives_json(made: Derived) -> None:
    assert Manifest.from_json(made.manifest.to_json()) == Manifest(
        **{**made.manifest.__dict__, "splits": {name: tuple(shards) for name, shards in made.manifest.splits.items()}}
    )
    assert made.manifest.record == np.dtype([("tokens", "<u2", (4,))])
    with pytest.raises(DataError, match=r"no such split \(got 'trian'\).*'train'"):
        made.manifest.shards("trian")


@settings(max_examples=50, deadline=None)
@given(places=st.lists(st.integers(0, 99), max_size=30))
def test_records_are_found_in_any_order(made: Derived, places: list[int]) -> None:
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    assert len(records) == 100
    found = records.located(np.array(places, np.int64))
    assert [int(shard.records["tokens"][row, 0]) for shard, row in found] == places


def test_arrays_outlive_their_shard(made: Derived) -> None:
    shards = MappedShards(made.folder, made.manifest.record)
    opened = shards.open(made.manifest.shards("train")[0])
    tokens = opened.records["tokens"]
    opened.close()
    shards.close()
    assert tokens[:, 0].tolist() == list(range(7))


def test_an_empty_file_is_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert mapped(tmp_path / "empty") == b""


def test_each_shard_is_opened_once_for_a_group_and_places_cover_it(made: Derived) -> None:
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    wanted = np.array([99, 0, 7, 1, 98, 0, 13])
    groups = list(records.grouped(wanted))
    assert len(groups) == 3
    found = np.full(len(wanted), -1)
    for shard, rows, places in groups:
        found[places] = shard.records["tokens"][rows, 0]
    assert found.tolist() == wanted.tolist()


def test_a_missing_shard_and_a_damaged_one_are_said_by_path(tmp_path: Path) -> None:
    set_ = numbered(tmp_path)
    first, second = set_.manifest.shards("train")[:2]
    (set_.folder / first.name).unlink()
    path = set_.folder / second.name
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.unlink()
    path.write_bytes(data)
    shards = MappedShards(set_.folder, set_.manifest.record)
    with pytest.raises(DataError, match=rf"is missing \(got '.*{first.name}'\).*--force"):
        shards.open(first)
    with pytest.raises(DataError, match=rf"is damaged \(got '.*{second.name}'\).*--force"):
        shards.open(second)
    assert shards.counters()["bytes_read"] == 0


def test_a_shard_is_mapped_once_and_counted_once(made: Derived) -> None:
    shards = MappedShards(made.folder, made.manifest.record)
    first, second = made.manifest.shards("train")[:2]
    assert shards.open(first) is shards.open(first)
    assert shards.counters()["bytes_read"] == first.size_bytes
    shards.open(second)
    assert shards.counters()["bytes_read"] == first.size_bytes + second.size_bytes
    shards.close()
    assert shards.counters()["bytes_read"] == 0


def test_mapped_records_cannot_be_written_to(made: Derived) -> None:
    opened = MappedShards(made.folder, made.manifest.record).open(made.manifest.shards("train")[0])
    with pytest.raises(ValueError, match="read-only"):
        opened.records["tokens"][0] = 9


def test_bytes_of_variable_width_lie_behind_the_records() -> None:
    record = np.dtype([("at", "<u8"), ("bytes", "<u4")])
    rows = np.array([(24, 3), (27, 0), (27, 4)], record)
    rows["at"] += 3 * record.itemsize - 24
    buffer = rows.tobytes() + b"abcdefg"
    opened = OpenShard(record, Shard("0" * 64, 3, len(buffer)), buffer)
    assert [opened.own_bytes(row) for row in range(3)] == [b"abc", b"", b"defg"]


def test_a_split_without_shards_has_no_records(made: Derived) -> None:
    records = Records(made.manifest.shards("test"), MappedShards(made.folder, made.manifest.record))
    assert len(records) == 0
    assert records.located(np.empty(0, np.int64)) == []
