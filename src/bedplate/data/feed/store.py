"""Where shards lie that are not on this machine: an object store (`s3://`, `gs://`, `az://`) or a folder of a parallel file system.

Credentials, region and endpoint of an object store come from its usual environment variables, which obstore reads: never from a URL.
An object store's client starts threads, so it is made in the process that uses it, after it forked.
Does not know: shards, caches, or digests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from bedplate.core.errors import DataError

CHUNK_BYTES = 4 << 20


class Store(Protocol):
    """A flat namespace of immutable files."""

    url: str

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, a few MiB at a time. Raises DataError when it cannot be read."""

    def put(self, name: str, path: Path) -> None:
        """Store the file at `path` under a name, whole or not at all. Raises DataError when it cannot be written."""

    def has(self, name: str, size_bytes: int) -> bool:
        """Whether a file of that name and size is there."""


class FolderStore:
    """A folder, as a rule of a parallel file system that every node mounts."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first file."""
        self.url = str(folder)
        self._folder = folder

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file."""
        try:
            with (self._folder / name).open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise _unreadable(self.url, name, error) from error

    def put(self, name: str, path: Path) -> None:
        """Copy a file in, by rename."""
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{name}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(path, beside)
            beside.rename(self._folder / name)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _unwritable(self.url, name, error) from error

    def has(self, name: str, size_bytes: int) -> bool:
        """Whether it is there."""
        path = self._folder / name
        return path.is_file() and path.stat().st_size == size_bytes


class ObjectStore:
    """A bucket, or a prefix of one. Requests that fail for a passing reason are made again by obstore."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet. Raises DataError for a URL that obstore does not know."""
        self.url = url
        try:
            self._store = from_url(url)
        except (BaseError, ValueError) as error:
            fix = "write s3://BUCKET/PREFIX, gs://… or az://…, or a folder"
            raise DataError(f"no such kind of store: {_first_line(error)}", value=url, fix=fix) from error

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of an object."""
        try:
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (BaseError, OSError) as error:
            raise _unreadable(self.url, name, error) from error

    def put(self, name: str, path: Path) -> None:
        """Upload a file; large ones in parts."""
        try:
            obstore.put(self._store, name, path)
        except (BaseError, OSError) as error:
            raise _unwritable(self.url, name, error) from error

    def has(self, name: str, size_bytes: int) -> bool:
        """Whether it is there."""
        try:
            return int(obstore.head(self._store, name)["size"]) == size_bytes
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise _unreadable(self.url, name, error) from error


def open_store(url: str) -> Store:
    """The store that a URL or a path names."""
    return ObjectStore(url) if "://" in url else FolderStore(Path(url))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _unreadable(url: str, name: str, error: BaseException) -> DataError:
    fix = "look whether the store can be reached, with which credentials, and whether the training set was derived into it"
    return DataError(f"{url} cannot be read: {_first_line(error)}", value=name, fix=fix)


def _unwritable(url: str, name: str, error: BaseException) -> DataError:
    return DataError(f"{url} cannot be written: {_first_line(error)}", value=name, fix="check its credentials and its space")
