"""Burn-in probes of one machine: matrix multiplication by precision, memory bandwidth, a disk in sequence and at random, with verdicts.

Each is short, and each is the best of several rounds: it asks what the machine can do, not what it does beside other work. What a verdict
is held against is given as an expectation; without one a probe is a figure and no verdict.
Sources: STREAM (McCalpin, 1995) for the copy that counts what is read and what is written.
Does not know: accelerators (torch is not imported here), networks between machines, or who acts on a verdict.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

ROUNDS = 5
MATRIX = 1024
COPY_BYTES = 64 << 20
DISK_BYTES = 64 << 20
BLOCK_BYTES = 4096
READS = 2000
ENOUGH = 0.7  # of what is expected


@dataclass(frozen=True)
class Probe:
    """One figure: `value` in `unit`, what was `expected` (None: nothing) and what that makes of it."""

    name: str
    value: float
    unit: str
    expected: float | None = None

    @property
    def verdict(self) -> Literal["ok", "slow", "measured"]:
        """`slow` below 70% of what is expected."""
        if self.expected is None:
            return "measured"
        return "ok" if self.value >= ENOUGH * self.expected else "slow"


def burn_in(folder: Path, expected: Mapping[str, float] | None = None) -> Iterator[Probe]:
    """The probes of this machine, one after the other; `folder` is on the disk that is probed, and is left as it was.

    `expected` maps a probe's name to the value that a healthy machine reaches. Raises OSError for a disk that fails.
    """
    wanted = expected or {}
    for name, unit, measure in _probes(folder):
        yield Probe(name, measure(), unit, wanted.get(name))


def _probes(folder: Path) -> Iterator[tuple[str, str, Callable[[], float]]]:
    yield "matmul float32", "GFLOP/s", lambda: _matmul(np.dtype(np.float32))
    yield "matmul float64", "GFLOP/s", lambda: _matmul(np.dtype(np.float64))
    yield "memory copy", "GB/s", _copy
    yield "disk write", "MB/s", lambda: _write(folder)
    yield "disk read", "MB/s", lambda: _read(folder)
    yield "disk random reads", "reads/s", lambda: _random(folder)


def _best_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        begun_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun_s)
    return min(times)


def _matmul(dtype: np.dtype[np.float32] | np.dtype[np.float64]) -> float:
    """2 n^3 operations of a product of two n x n matrices."""
    left = np.random.default_rng(0).random((MATRIX, MATRIX)).astype(dtype)
    out = np.empty_like(left)
    return 2 * MATRIX**3 / _best_s(lambda: np.matmul(left, left, out=out)) / 1e9


def _copy() -> float:
    source = np.ones(COPY_BYTES // 8)
    sink = np.empty_like(source)
    return 2 * COPY_BYTES / _best_s(lambda: np.copyto(sink, source)) / 1e9


def _write(folder: Path) -> float:
    data = os.urandom(1 << 20)
    path = folder / f".bedplate-probe-{os.getpid()}"

    def write() -> None:
        with path.open("wb") as file:
            for _ in range(DISK_BYTES // len(data)):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())

    try:
        return DISK_BYTES / _best_s(write) / 1e6
    finally:
        path.unlink(missing_ok=True)


def _read(folder: Path) -> float:
    with _Direct(folder) as direct:
        return DISK_BYTES / _best_s(lambda: direct.each(range(0, DISK_BYTES, 1 << 20), 1 << 20)) / 1e6


def _random(folder: Path) -> float:
    draw = random.Random(0)  # noqa: S311 - places in a file
    with _Direct(folder) as direct:
        places = [draw.randrange(DISK_BYTES // BLOCK_BYTES) * BLOCK_BYTES for _ in range(READS)]
        return READS / _best_s(lambda: direct.each(places, BLOCK_BYTES))


class _Direct:
    """A file that is read from its disk and not from memory: past the cache where the file system can (O_DIRECT), else dropped from it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f".bedplate-probe-{os.getpid()}"
        self._buffer = mmap.mmap(-1, 1 << 20)  # O_DIRECT wants memory that begins with a page

    def __enter__(self) -> _Direct:
        with self._path.open("wb") as file:
            for _ in range(DISK_BYTES >> 20):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
        self._file = -1
        with suppress(OSError):  # tmpfs and some network file systems have no O_DIRECT
            self._file = os.open(self._path, os.O_RDONLY | os.O_DIRECT)
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDONLY)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._buffer.close()
        self._path.unlink(missing_ok=True)

    def each(self, places: Iterable[int], count: int) -> None:
        """Read `count` bytes from each place on."""
        with memoryview(self._buffer)[:count] as view:
            for place in places:
                if os.preadv(self._file, [view], place) != count:
                    raise OSError(f"{self._path} ends before {place + count}")
