"""A bounded cache on a node's own disk that several processes share, for files that are named by their digest.

    entries/NAME       whole files; a reader holds a shared lock (flock) on the one that it uses, which keeps it from being evicted
    arriving/NAME      files on the way, at their full size from the start: the room that they will take is taken
    locks/00 .. ff     who fetches a name holds the lock of its stripe; locks/room is held while sizes are counted

The sum of entries and arriving files never exceeds the limit. The least recently opened entry goes first. A file becomes an entry by
rename, after its digest was checked; what a killed process left arriving is cleared away by the next one that needs room.
Does not know: where files come from, or what is in them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import blake3

from bedplate.core.errors import DataError


class NoRoom(Exception):
    """All that could be evicted is in use, or the file is larger than the whole cache."""


class NodeCache:
    """One cache folder. Safe for any number of processes and threads on one node."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """Make the folder; `limit_bytes` is what all its files together may take."""
        self.limit_bytes = limit_bytes
        self._entries, self._arriving, self._locks = (folder / name for name in ("entries", "arriving", "locks"))
        for part in (self._entries, self._arriving, self._locks):
            part.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, digest: str, size_bytes: int, fetch: Callable[[], Iterable[bytes]]) -> tuple[int, bool]:
        """A descriptor of the file, which pins it until it is closed, and whether it was here already.

        What is not here is fetched, by one process at a time. Raises NoRoom, and DataError when what arrives has another digest.
        """
        found = self._pinned(name)
        if found is not None:
            return found, True
        with _held(self._locks / blake3.blake3(name.encode()).hexdigest()[:2]):
            found = self._pinned(name)
            if found is not None:
                return found, True
            return self._fetched(name, digest, size_bytes, fetch), False

    def size_bytes(self) -> int:
        """What entries and arriving files take now. Counted twice where one becomes the other meanwhile."""
        return sum(size for folder in (self._arriving, self._entries) for _, size, _ in _files(folder))

    def _pinned(self, name: str) -> int | None:
        """An open descriptor with a shared lock, None when there is no such entry."""
        path = self._entries / name
        while True:
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:
                os.utime(descriptor)
                return descriptor
            os.close(descriptor)  # evicted between the two calls

    def _fetched(self, name: str, digest: str, size_bytes: int, fetch: Callable[[], Iterable[bytes]]) -> int:
        path = self._arriving / name
        with _held(self._locks / "room"):
            descriptor = self._room_for(path, size_bytes)
        try:
            hasher, done = blake3.blake3(), 0
            for chunk in fetch():
                hasher.update(chunk)
                if done + len(chunk) > size_bytes:
                    raise DataError("a fetched file is longer than it should be", value=name, fix="derive the training set again")
                os.pwrite(descriptor, chunk, done)
                done += len(chunk)
            if hasher.hexdigest() != digest:
                raise DataError("a fetched file is damaged", value=name, fix="derive the training set again, with --force")
            os.fsync(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            path.rename(self._entries / name)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def _room_for(self, path: Path, size_bytes: int) -> int:
        """Evict until the file fits, and take the room: a descriptor of it, as large as it will be."""
        self._clear_orphans(path)
        free = self.limit_bytes - self.size_bytes()
        for victim, size, _ in sorted(_files(self._entries), key=lambda entry: entry[2]):
            if free >= size_bytes:
                break
            free += size if _evicted(victim) else 0
        if free < size_bytes:
            raise NoRoom
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as error:
            path.unlink()
            os.close(descriptor)
            fix = f"free {size_bytes} bytes there, or lower BEDPLATE_CACHE_BYTES"
            raise DataError("the disk of the cache is full", value=str(path.parent.parent), fix=fix) from error
        return descriptor

    def _clear_orphans(self, mine: Path) -> None:
        """Remove what arrives for nobody: a fetcher holds its stripe as long as it lives."""
        for path, _, _ in list(_files(self._arriving)):
            stripe = os.open(self._locks / blake3.blake3(path.name.encode()).hexdigest()[:2], os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if path != mine:
                    fcntl.flock(stripe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                continue  # it is on its way
            finally:
                os.close(stripe)


def _evicted(path: Path) -> bool:
    """Remove an entry unless somebody uses it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _files(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Each file with its size and when it was last opened (nanoseconds)."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            yield Path(entry.path), status.st_size, status.st_mtime_ns


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
