"""Derivation: the same is derived once, whole or not at all, whoever is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bedplate.core.digest import digest, digest_file
from bedplate.data.feed.derived import ShardWriter, derive, publish
from bedplate.data.feed.records import Manifest, MappedShards, Records
from bedplate.data.feed.samples import open_feed
from bedplate.data.feed.store import open_store
from data.feed.sets import numbered

DTYPE = [["tokens", "<u2", [4]]]


def test_the_same_is_never_derived_twice(tmp_path: Path) -> None:
    first, again, other = numbered(tmp_path), numbered(tmp_path), numbered(tmp_path, rows=50)
    assert (first.made, again.made, other.made) == (True, False, True)
    assert first.folder == again.folder != other.folder
    assert first.digest == again.digest == digest(first.manifest.to_json())


def test_a_shard_is_called_by_its_digest_and_holds_what_the_manifest_says(tmp_path: Path) -> None:
    made = numbered(tmp_path)
    shards = made.manifest.shards("train")
    assert [shard.rows for shard in shards] == [7] * 14 + [2]
    for shard in shards:
        path = made.folder / shard.name
        assert (path.stat().st_size, digest_file(path)) == (shard.size_bytes, shard.digest)


def test_threads_that_derive_the_same_wait_for_the_first(tmp_path: Path) -> None:
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(numbered(tmp_path).made)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 5 + [True]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def write(folder: Path) -> Manifest:
        (folder / "half").write_bytes(b"half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        derive(tmp_path, {"a": 1}, write)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_bytes_of_variable_width_lie_behind_the_records(tmp_path: Path) -> None:
    dtype = [["at", "<u8"], ["bytes", "<u4"], ["label", "<i8"]]
    own = [bytes([number]) * (number * 10) for number in range(20)]

    def write(folder: Path) -> Manifest:
        manifest = Manifest("images", dtype, {})
        writer = ShardWriter(folder, manifest.record, 500)
        records = np.zeros(20, manifest.record)
        records["label"] = range(20)
        writer.add("train", records[:9], own[:9])
        writer.add("train", records[9:], own[9:])
        return Manifest("images", dtype, writer.end(["train"]))

    made = derive(tmp_path, {"own": 1}, write)
    assert len(made.manifest.shards("train")) > 1
    records = Records(made.manifest.shards("train"), MappedShards(made.folder, made.manifest.record))
    found = [(int(shard.records["label"][row]), shard.own_bytes(row)) for shard, row in records.located(np.arange(20))]
    assert found == list(enumerate(own))


KILLED = """
import sys
from pathlib import Path
from data.feed.sets import numbered
print("go", flush=True)
for rows in range(1, 100_000):
    numbered(Path(sys.argv[1]), rows=rows, per_shard=3)
"""


def test_a_killed_derivation_leaves_nothing_half(tmp_path: Path) -> None:
    chance = random.Random(1)
    for _ in range(8):
        argv = [sys.executable, "-c", KILLED, str(tmp_path)]
        process = subprocess.Popen(argv, env={"PYTHONPATH": ":".join(path for path in sys.path if path)}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in tmp_path.iterdir():
            if folder.is_dir() and not folder.name.startswith("."):
                open_feed(folder, tmp_path / "cache", 1).columns("train")
    whole = [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert whole
    again = numbered(tmp_path, rows=len(whole) + 1, per_shard=3)  # what was under way when the last one was killed
    assert len(open_feed(again.folder, tmp_path, 1).columns("train")["tokens"]) == len(whole) + 1
    assert list(tmp_path.glob(".*.tmp")) == []


def test_a_published_set_lies_in_its_store_and_its_manifest_says_so(tmp_path: Path) -> None:
    made = numbered(tmp_path / "derived")
    away = publish(made, open_store(str(tmp_path / "away")), tmp_path / "out")
    assert {path.name for path in (tmp_path / "away").iterdir()} == {path.name for path in made.folder.glob("*.shard")}
    assert away.manifest.store == str(tmp_path / "away")
    assert not list((tmp_path / "out").glob("*.shard"))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "away").iterdir()}
    publish(made, open_store(str(tmp_path / "away")), tmp_path / "out")
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "away").iterdir()}
