"""Where a lake lies: a folder, or a prefix of an S3 bucket. Names, handles and files of tables, and locks of this machine.

In a bucket a commit is a conditional put (`If-None-Match`), so of two writers anywhere one meets a conflict. Credentials and endpoint come
from the environment as the library and Arrow read it (`AWS_*`, `AWS_ENDPOINT_URL`). Locks lie in a local folder in both cases: they
keep apart processes that share it, and nothing that is exact depends on them (`lake`).
Does not know: what is in a table, or which rows are whose.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable

from bedplate.core.errors import DataError, Unavailable

S3 = "s3://"
_FILE = "file://"
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


class Place(Protocol):
    """A folder or prefix whose children are tables. `scratch` is a local folder for locks and what is read on its way."""

    scratch: Path

    def uri(self, name: str) -> str:
        """The address of a table."""

    @property
    def options(self) -> Mapping[str, str]:
        """What the library must be told besides the environment."""

    @property
    def shared(self) -> bool:
        """Whether processes that do not share `scratch` may write here."""

    def files(self, name: str) -> pafs.FileSystem:
        """The files of a table, as Arrow reads them by itself."""

    def names(self) -> list[str]:
        """The tables that there are, sorted."""


class Folder:
    """Tables in a local folder."""

    options: Mapping[str, str] = {}
    shared = False

    def __init__(self, root: Path) -> None:
        """Nothing is made yet."""
        self.scratch = root

    def uri(self, name: str) -> str:
        """The path of a table."""
        return str(self.scratch / name)

    def files(self, name: str) -> pafs.FileSystem:
        """The files of a table."""
        return pafs.SubTreeFileSystem(self.uri(name), pafs.LocalFileSystem())

    def names(self) -> list[str]:
        """The folders that have a log."""
        if not self.scratch.is_dir():
            return []
        return sorted(folder.name for folder in self.scratch.iterdir() if (folder / "_delta_log").is_dir())


class Bucket:
    """Tables below a prefix of an S3 bucket, which must exist."""

    options: Mapping[str, str] = {"aws_conditional_put": "etag"}
    shared = True

    def __init__(self, uri: str, scratch: Path) -> None:
        """Nothing is asked yet."""
        self.scratch = scratch
        self._uri = uri.rstrip("/")

    def uri(self, name: str) -> str:
        """The address of a table."""
        return f"{self._uri}/{name}"

    def files(self, name: str) -> pafs.FileSystem:
        """The files of a table."""
        with reaching(self._uri):
            store, path = pafs.FileSystem.from_uri(self.uri(name))
            return pafs.SubTreeFileSystem(path, store)

    def names(self) -> list[str]:
        """The prefixes that have a log. Raises Unavailable when the bucket cannot be listed."""
        with reaching(self._uri):
            store, path = pafs.FileSystem.from_uri(self._uri)
            found = store.get_file_info(pafs.FileSelector(path, allow_not_found=True))
            folders = [each for each in found if each.type == pafs.FileType.Directory]
            logs = store.get_file_info([f"{each.path}/_delta_log" for each in folders])
        return sorted(each.base_name for each, log in zip(folders, logs, strict=True) if log.type == pafs.FileType.Directory)


def place_of(root: Path | str, scratch: Path | None = None) -> Place:
    """The place that a path, `file:///folder` or `s3://bucket/prefix` names; a bucket needs `scratch`. Raises DataError for others."""
    if isinstance(root, Path):
        return Folder(root)
    if root.startswith(_FILE):
        return Folder(Path(root.removeprefix(_FILE)))
    if not root.startswith(S3) or scratch is None:
        raise DataError("no place for a lake", value=root, fix="write s3://bucket/prefix, or file:///folder")
    return Bucket(root, scratch)


def exists(place: Place, name: str) -> bool:
    """Whether there is a table of that name. Raises Unavailable when a bucket does not answer."""
    with reaching(place.uri(name)):
        return DeltaTable.is_deltatable(place.uri(name), dict(place.options))


def loaded(place: Place, name: str, version: int | None = None) -> DeltaTable:
    """A handle on a table, at its newest version or a certain one."""
    return DeltaTable(place.uri(name), version=version, storage_options=dict(place.options))


def made(place: Place, name: str, schema: pa.Schema, configuration: Mapping[str, str]) -> None:
    """Make a table. Raises DeltaError when there is one."""
    options = dict(place.options)
    DeltaTable.create(place.uri(name), schema, mode="error", configuration=dict(configuration), storage_options=options)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock until the block or the process ends; gives False when another has it and `wait` is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield _flock(descriptor, wait)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Raise Unavailable, with what the store said, for a bucket that does not answer, is not there or refuses."""
    try:
        yield
    except OSError as error:
        if not uri.startswith(S3):
            raise
        said = _COLORS.sub("", str(error))
        code = re.search(r"<Code>(\w+)</Code>", said)
        why = code.group(1) if code else " ".join(said.split())[:200]
        fix = "make the bucket, and set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION"
        raise Unavailable(f"the lake's bucket cannot be used: {why}", value=uri, fix=fix) from error
