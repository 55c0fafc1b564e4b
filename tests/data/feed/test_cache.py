"""The node's cache: never above its limit with any number of processes, never a file that is not whole, least recently used first."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import blake3
import pytest

from bedplate.core.errors import DataError
from bedplate.data.feed.cache import NodeCache, NoRoom

KB = 1024


def content(number: int, size: int = 10 * KB) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def opened(cache: NodeCache, number: int, size: int = 10 * KB) -> bool:
    """Open file `number`, check its bytes and let it go; whether it was there already."""
    data = content(number, size)
    descriptor, hit = cache.open(f"file-{number}", blake3.blake3(data).hexdigest(), len(data), lambda: [data[:100], data[100:]])
    with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
        file.seek(0)
        assert file.read() == data
    return hit


def test_what_was_fetched_once_is_there(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 100 * KB)
    assert [opened(cache, number) for number in (1, 2, 1, 2)] == [False, False, True, True]
    assert opened(NodeCache(tmp_path, 100 * KB), 1), "another process finds it too"


def test_the_least_recently_opened_goes_first(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 30 * KB)
    for number in (1, 2, 3, 1, 4):
        opened(cache, number)
    assert {path.name for path in (tmp_path / "entries").iterdir()} == {"file-1", "file-3", "file-4"}
    assert cache.size_bytes() == 30 * KB


def test_what_is_in_use_stays_and_a_cache_full_of_it_has_no_room(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 20 * KB)
    held = []
    for number in (1, 2):
        data = content(number)
        held.append(cache.open(f"file-{number}", blake3.blake3(data).hexdigest(), len(data), lambda data=data: [data])[0])
    with pytest.raises(NoRoom):
        opened(cache, 3)
    os.close(held[0])
    opened(cache, 3)
    assert {path.name for path in (tmp_path / "entries").iterdir()} == {"file-2", "file-3"}
    os.close(held[1])
    with pytest.raises(NoRoom):
        opened(cache, 4, size=21 * KB)


@pytest.mark.parametrize("arrives", [b"x" * 10 * KB, content(1)[:-1], content(1) + b"more"])
def test_what_arrives_otherwise_than_it_should_is_refused_and_leaves_nothing(tmp_path: Path, arrives: bytes) -> None:
    cache = NodeCache(tmp_path, 100 * KB)
    with pytest.raises(DataError, match="a fetched file is"):
        cache.open("file-1", blake3.blake3(content(1)).hexdigest(), 10 * KB, lambda: [arrives])
    assert cache.size_bytes() == 0
    assert not opened(cache, 1)


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"some"
        raise ConnectionError("the store went away")

    cache = NodeCache(tmp_path, 100 * KB)
    with pytest.raises(ConnectionError):
        cache.open("file-1", "0" * 64, 10 * KB, broken)
    assert cache.size_bytes() == 0


def test_threads_that_want_one_file_fetch_it_once(tmp_path: Path) -> None:
    cache, fetched = NodeCache(tmp_path, 100 * KB), []

    def fetch() -> list[bytes]:
        fetched.append(1)
        time.sleep(0.05)
        return [content(1)]

    def want() -> None:
        os.close(cache.open("file-1", blake3.blake3(content(1)).hexdigest(), 10 * KB, fetch)[0])

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [1]


WORKER = """
import os, random, sys, time
from pathlib import Path
import blake3
from bedplate.data.feed.cache import NodeCache, NoRoom
folder, seed, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
cache, chance = NodeCache(folder, limit), random.Random(seed)
print("go", flush=True)
for _ in range(int(sys.argv[4])):
    number = chance.randrange(30)
    data = number.to_bytes(4, "little") * (256 * (1 + number % 8))
    def fetch():
        for first in range(0, len(data), 512):
            yield data[first : first + 512]
            if chance.random() < 0.1:
                time.sleep(0.001)
    try:
        descriptor, _ = cache.open(str(number), blake3.blake3(data).hexdigest(), len(data), fetch)
    except NoRoom:
        continue
    assert os.pread(descriptor, len(data) + 1, 0) == data
    os.close(descriptor)
"""


def worker(folder: Path, seed: int, limit: int, rounds: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", WORKER, str(folder), str(seed), str(limit), str(rounds)]
    process = subprocess.Popen(argv, env={"PYTHONPATH": ":".join(path for path in sys.path if path)}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_limit_holds_with_several_processes_and_so_does_every_byte(tmp_path: Path) -> None:
    limit = 40 * KB
    workers = [worker(tmp_path, seed, limit, 300) for seed in range(4)]
    largest = 0
    cache = NodeCache(tmp_path, limit)
    try:
        while any(process.poll() is None for process in workers):
            sizes = {}
            with (tmp_path / "locks" / "room").open("w") as room:  # while it is held nothing new takes room; arrived files are renamed
                fcntl.flock(room, fcntl.LOCK_EX)
                for path in [path for part in ("arriving", "entries") for path in (tmp_path / part).iterdir()]:
                    with contextlib.suppress(FileNotFoundError):
                        sizes[path.name] = path.stat().st_size
            largest = max(largest, sum(sizes.values()))
            time.sleep(0.002)
        assert [process.returncode for process in workers] == [0, 0, 0, 0]
    finally:
        for process in workers:
            process.kill()
            process.communicate()
    assert limit // 2 < largest <= limit
    assert cache.size_bytes() <= limit


def test_killed_processes_leave_nothing_half_and_their_room_comes_back(tmp_path: Path) -> None:
    limit, chance = 40 * KB, random.Random(5)
    for seed in range(6):
        process = worker(tmp_path, seed, limit, 100_000)
        time.sleep(chance.uniform(0.02, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cache = NodeCache(tmp_path, limit)
        for path in (tmp_path / "entries").iterdir():
            number = int(path.name)
            assert path.read_bytes() == number.to_bytes(4, "little") * (256 * (1 + number % 8))
        assert cache.size_bytes() <= limit
    assert not opened(NodeCache(tmp_path, limit), 1000, size=36 * KB)
    assert [path for path in (tmp_path / "arriving").iterdir() if path.stat().st_size] == []
