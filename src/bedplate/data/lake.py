"""The lake: Delta tables in a folder, with how far a source was read recorded in the very commit that holds its rows.

Exactly once: what is recorded is compared on one table handle and the commit is made on that same handle, without the library's own
retries; after a conflict the handle is loaded again and everything is compared again. Nothing is ever appended by path. Every version
stays readable: logs are never cleaned up and files are never vacuumed.
The library lets two compactions of one table double its rows, so they take a file lock. It panics after `fork`: spawn processes.
Does not know: sources, declared columns or what a mark stands for.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from bedplate.core.errors import Busy, DataError, NotFound, nearest
from bedplate.data.scan import read

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_FOREVER = "interval 36500 days"
_CONFIGURATION = {"delta.logRetentionDuration": _FOREVER, "delta.deletedFileRetentionDuration": _FOREVER}
_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_OFFSETS = "bedplate.offsets"
_CONFLICTS = 100
COMPACT_FILES = 64


@dataclass(frozen=True)
class Write:
    """One commit: rows that are appended, or that replace all rows and the schema.

    `marks` are Delta application transactions, name -> number; `offsets` is what `history` shows, partition -> offset.
    """

    rows: pa.Table | pa.RecordBatchReader
    marks: Mapping[str, int]
    offsets: Mapping[int, int] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True)
class Commit:
    """One version of a table. `rows` counts those that the commit added; `offsets` is empty where it moved none (a compaction)."""

    version: int
    at_s: float
    operation: str
    rows: int
    offsets: Mapping[int, int]


class Table:
    """A handle on one table, at the version at which it was loaded or to which it wrote. For one thread."""

    def __init__(self, name: str, folder: Path, version: int | None = None) -> None:
        """Load the newest version, or the one that is named. Raises deltalake's TableNotFoundError when there is none: ask the lake."""
        self.name = name
        self._folder = folder
        self._delta = DeltaTable(str(folder), version=version)

    @property
    def version(self) -> int:
        """The Delta version of this handle."""
        return int(self._delta.version())

    @property
    def schema(self) -> pa.Schema:
        """The columns at this version."""
        return _native(self._delta, self._folder).schema

    @property
    def rows(self) -> int:
        """How many rows there are at this version."""
        return int(self._delta.count())

    def recorded(self, mark: str) -> int | None:
        """The number that the last commit with this mark recorded, as of this handle's version."""
        number = self._delta.transaction_version(mark)
        return None if number is None else int(number)

    def history(self) -> list[Commit]:
        """Every commit up to this version, newest first."""
        return [_commit_of(entry) for entry in self._delta.history()]

    def reload(self) -> None:
        """Move the handle to the newest version."""
        self._delta = DeltaTable(str(self._folder))

    def write(self, prepare: Callable[[], Write | None]) -> bool:
        """Commit what `prepare` gives, on the handle that `prepare` looked at; False when it gave None.

        After a conflict the handle is reloaded and `prepare` is asked again, so it must compare `recorded` every time.
        Raises Busy when another writer came first a hundred times.
        """
        for _ in range(_CONFLICTS):
            prepared = prepare()
            if prepared is None:
                return False
            try:
                self._commit(prepared)
            except CommitFailedError:
                self.reload()
            else:
                return True
        raise Busy("other writers of the table came first every time", value=self.name, fix="let them end, then run it again")

    def _commit(self, prepared: Write) -> None:
        offsets = json.dumps({str(partition): offset for partition, offset in prepared.offsets.items()})
        write_deltalake(
            self._delta,
            prepared.rows,
            mode="overwrite" if prepared.replace else "append",
            schema_mode="overwrite" if prepared.replace else None,
            commit_properties=CommitProperties(
                custom_metadata={_OFFSETS: offsets},
                max_commit_retries=0,
                app_transactions=[Transaction(mark, number) for mark, number in prepared.marks.items()],
            ),
            writer_properties=WriterProperties(compression="SNAPPY"),
            post_commithook_properties=_AFTER_COMMIT,
        )

    def compact(self, least_files: int = COMPACT_FILES) -> bool:
        """Merge small files when there are at least `least_files`. False when there are not, or another process is at it."""
        if len(self._delta.file_uris()) < least_files:
            return False
        with _lock(self._folder.with_name(f".{self.name}.compact"), wait=False) as held:
            if not held:
                return False
            self.reload()  # under the lock: a compaction on an older version would bring back the files that another one merged
            try:
                self._delta.optimize.compact(post_commithook_properties=_AFTER_COMMIT)
            except CommitFailedError:
                self.reload()  # the table was replaced meanwhile: what was to be merged is gone
                return False
            self.reload()
            return True


class Lake:
    """The tables below one folder."""

    def __init__(self, root: Path) -> None:
        """Tables lie in `root/NAME`; nothing is made yet."""
        self.root = root

    def table(self, name: str, version: int | None = None) -> Table | None:
        """A handle on a table, of its newest version or a certain one, or None when there is none.

        Raises DataError for a name outside [a-z0-9_-].
        """
        folder = self._folder(name)
        return Table(name, folder, version) if DeltaTable.is_deltatable(str(folder)) else None

    def create(self, name: str, schema: pa.Schema) -> Table:
        """A handle on a table, which is made when there is none: of several that try at once, one makes it and all get it."""
        folder = self._folder(name)
        table = self.table(name)
        if table is None:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                DeltaTable.create(str(folder), schema, mode="error", configuration=_CONFIGURATION)
            except DeltaError:
                if not DeltaTable.is_deltatable(str(folder)):  # else another process made it first
                    raise
            table = Table(name, folder)
        return table

    def dataset(self, name: str, version: int | None = None) -> pads.Dataset:
        """A version of a table as a pyarrow dataset: DuckDB reads it by name once it is registered, with filters pushed down.

        Raises NotFound for a table or a version that is not there.
        """
        folder = self._folder(name)
        if not DeltaTable.is_deltatable(str(folder)):
            raise NotFound("the lake has no such table", value=name, fix=nearest(name, self.names()))
        newest = DeltaTable(str(folder))
        if version is None or version == newest.version():
            return _native(newest, folder)
        if not 0 <= version <= newest.version():
            raise NotFound(f"table {name!r} has no such version", value=version, fix=f"versions are 0 to {newest.version()}")
        return _native(DeltaTable(str(folder), version=version), folder)

    def read(
        self, name: str, version: int | None = None, columns: Sequence[str] | None = None, filter: pc.Expression | None = None
    ) -> pa.Table:
        """Rows of a version in no certain order; all columns unless named.

        Raises NotFound for a table or a version that is not there and DataError for a column.
        """
        dataset = self.dataset(name, version)
        for column in columns or ():
            if column not in dataset.schema.names:
                raise DataError(f"table {name!r} has no such column", value=column, fix=nearest(column, dataset.schema.names))
        return read(dataset, dataset.schema.names if columns is None else columns, filter)

    def history(self, name: str) -> list[Commit]:
        """Every commit of a table, newest first. Raises NotFound."""
        table = self.table(name)
        if table is None:
            raise NotFound("the lake has no such table", value=name, fix=nearest(name, self.names()))
        return table.history()

    def names(self) -> list[str]:
        """The tables that there are."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if (folder / "_delta_log").is_dir())

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep other processes that ask for the same name waiting; released when the process ends, however it ends."""
        self.root.mkdir(parents=True, exist_ok=True)
        with _lock(self._folder(name).with_name(f".{name}.lock"), wait=True):
            yield

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise DataError("not a table's name", value=name, fix="use lower-case letters, digits, '_' and '-'")
        return self.root / name


def _native(delta: DeltaTable, folder: Path) -> pads.Dataset:
    """The version as a dataset that Arrow reads by itself.

    The library's own file system is a Python object: a thread of Arrow that lets go of it while the interpreter exits aborts the process.
    """
    files = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
    dataset: pads.Dataset = delta.to_pyarrow_dataset(filesystem=files)
    return dataset


def _commit_of(entry: Mapping[str, Any]) -> Commit:
    offsets = json.loads(entry.get(_OFFSETS, "{}"))
    return Commit(
        version=int(entry["version"]),
        at_s=float(entry["timestamp"]) / 1000,
        operation=str(entry["operation"]),
        rows=int(entry.get("operationMetrics", {}).get("num_added_rows", 0)),
        offsets={int(partition): int(offset) for partition, offset in offsets.items()},
    )


@contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[bool]:
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
