"""The lake: Delta tables in a folder or a bucket, with how far a source was read recorded in the very commit that holds its rows.

Exactly once: what is recorded is compared on one table handle and the commit is made on that same handle, without the library's own
retries; after a conflict the handle is loaded again and everything is compared again. Nothing is ever appended by path. Every version
stays readable until `discard` is told to delete files: logs are never cleaned up and files are never vacuumed.
The library lets two compactions of one table double its rows, so they take a file lock, and in a bucket there are none.
It panics after `fork`: spawn processes.
Does not know: sources, declared columns or what a mark stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

from bedplate.core.atomic import confined
from bedplate.core.errors import Busy, DataError, NotFound, nearest
from bedplate.data.place import Place, exists, loaded, locked, made, place_of
from bedplate.data.scan import read

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_FOREVER = "interval 36500 days"
_CONFIGURATION = {"delta.logRetentionDuration": _FOREVER, "delta.deletedFileRetentionDuration": _FOREVER}
_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_OFFSETS = "bedplate.offsets"
_CONFLICTS = 100
COMPACT_FILES = 64


@dataclass(frozen=True)
class StoredFile:
    """One Parquet file of a version: how many rows and bytes it has."""

    rows: int
    size_bytes: int


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

    def __init__(self, name: str, place: Place, version: int | None = None) -> None:
        """Load the newest version, or the one that is named. Raises deltalake's TableNotFoundError when there is none: ask the lake."""
        self.name = name
        self._place = place
        self._delta = loaded(place, name, version)

    @property
    def version(self) -> int:
        """The Delta version of this handle."""
        return int(self._delta.version())

    @property
    def schema(self) -> pa.Schema:
        """The columns at this version."""
        return _native(self._delta, self._place.files(self.name)).schema

    @property
    def rows(self) -> int:
        """How many rows there are at this version."""
        return int(self._delta.count())

    @property
    def _folder(self) -> Path:
        """Where the table lies on this machine. Raises DataError for one in a bucket."""
        if self._place.shared:
            raise DataError("this is done in a local lake only", value=self._place.uri(self.name), fix="do it with the bucket's own tools")
        return Path(self._place.uri(self.name))

    def recorded(self, mark: str) -> int | None:
        """The number that the last commit with this mark recorded, as of this handle's version."""
        number = self._delta.transaction_version(mark)
        return None if number is None else int(number)

    def history(self) -> list[Commit]:
        """Every commit up to this version, newest first."""
        return [_commit_of(entry) for entry in self._delta.history()]

    def reload(self) -> None:
        """Move the handle to the newest version."""
        self._delta = loaded(self._place, self.name)

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
        """Merge small files when there are at least `least_files`. False when there are not, or another process is at it.

        Always False in a bucket, where a lock of this machine would not keep others out.
        """
        if self._place.shared or len(self._delta.file_uris()) < least_files:
            return False
        with locked(self._place.scratch / f".{self.name}.compact", wait=False) as held:
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

    def files(self) -> dict[str, StoredFile]:
        """The files of this version by path, as the log lists them: none is opened."""
        listed = pa.table(self._delta.get_add_actions(flatten=True)).select(["path", "num_records", "size_bytes"]).to_pylist()
        return {each["path"]: StoredFile(int(each["num_records"] or 0), int(each["size_bytes"])) for each in listed}

    def reading(self, paths: Sequence[str]) -> pads.Dataset:
        """Some files of this version as a dataset with its columns; one that a file does not have is null there."""
        if not paths:
            return pads.dataset(self.schema.empty_table())
        return pads.dataset(list(paths), schema=self.schema, format="parquet", filesystem=self._place.files(self.name))

    def superseded(self, keep: Iterable[int]) -> dict[str, int]:
        """Files that were of the table once, but are of neither this version nor those of `keep`, with their bytes.

        Only what a commit took out counts: a file that a writer has not committed yet is not among them. A version of `keep` whose files
        are gone counts all the same: the log lists them.
        """
        kept = set(self.files()).union(*(self.at(version).files() for version in keep))
        taken_out: set[str] = set()
        for commit in sorted((self._folder / "_delta_log").glob("*.json")):
            actions = (json.loads(line) for line in commit.read_text().splitlines() if line.startswith('{"remove"'))
            taken_out.update(action["remove"]["path"] for action in actions)
        there = {path: confined(self._folder, path) for path in sorted(taken_out - kept)}
        return {path: place.stat().st_size for path, place in there.items() if place.is_file()}

    def discard(self, paths: Iterable[str]) -> None:
        """Delete files of the table for good."""
        for path in paths:
            confined(self._folder, path).unlink(missing_ok=True)

    def at(self, version: int) -> Table:
        """Another handle on the table, at a version."""
        return Table(self.name, self._place, version)

    def restore(self, version: int, prepare: Callable[[], tuple[Mapping[str, int], Mapping[int, int]] | None]) -> bool:
        """Commit the rows and columns of `version` anew, with the marks and offsets that `prepare` gives; False when it gave None.

        No row is copied: the log lists the files of then again. Conflicts are as in `write`.
        """
        for _ in range(_CONFLICTS):
            prepared = prepare()
            if prepared is None:
                return False
            marks, offsets = prepared
            said = json.dumps({str(partition): offset for partition, offset in offsets.items()})
            properties = CommitProperties(
                custom_metadata={_OFFSETS: said},
                max_commit_retries=0,
                app_transactions=[Transaction(mark, number) for mark, number in marks.items()],
            )
            try:
                self._delta.restore(version, commit_properties=properties, post_commithook_properties=_AFTER_COMMIT)
            except CommitFailedError:
                self.reload()
            else:
                self.reload()
                return True
        raise Busy("other writers of the table came first every time", value=self.name, fix="let them end, then run it again")


class Lake:
    """The tables below one folder, or one prefix of a bucket."""

    def __init__(self, root: Path | str, scratch: Path | None = None) -> None:
        """Tables lie in `root/NAME`, a path or `s3://bucket/prefix`; nothing is made yet. A bucket needs `scratch`, a folder for locks."""
        self._place = place_of(root, scratch)
        self.scratch = self._place.scratch

    def table(self, name: str, version: int | None = None) -> Table | None:
        """A handle on a table, of its newest version or a certain one, or None when there is none.

        Raises DataError for a name outside [a-z0-9_-].
        """
        _check(name)
        return Table(name, self._place, version) if exists(self._place, name) else None

    def create(self, name: str, schema: pa.Schema) -> Table:
        """A handle on a table, which is made when there is none: of several that try at once, one makes it and all get it."""
        table = self.table(name)
        if table is None:
            self.scratch.mkdir(parents=True, exist_ok=True)
            try:
                made(self._place, name, schema, _CONFIGURATION)
            except DeltaError:
                if not exists(self._place, name):  # else another process made it first
                    raise
            table = Table(name, self._place)
        return table

    def dataset(self, name: str, version: int | None = None) -> pads.Dataset:
        """A version of a table as a pyarrow dataset: DuckDB reads it by name once it is registered, with filters pushed down.

        Raises NotFound for a table or a version that is not there.
        """
        _check(name)
        if not exists(self._place, name):
            raise NotFound("the lake has no such table", value=name, fix=nearest(name, self.names()))
        newest, files = loaded(self._place, name), self._place.files(name)
        if version is None or version == newest.version():
            return _native(newest, files)
        if not 0 <= version <= newest.version():
            raise NotFound(f"table {name!r} has no such version", value=version, fix=f"versions are 0 to {newest.version()}")
        return _native(loaded(self._place, name, version), files)

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
        return self._place.names()

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep others with the same scratch who ask for the same name waiting; released when the process ends, however it ends."""
        _check(name)
        with locked(self.scratch / f".{name}.lock", wait=True):
            yield


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DataError("not a table's name", value=name, fix="use lower-case letters, digits, '_' and '-'")


def _native(delta: DeltaTable, files: pafs.FileSystem) -> pads.Dataset:
    """The version as a dataset that Arrow reads by itself.

    The library's own file system is a Python object: a thread of Arrow that lets go of it while the interpreter exits aborts the process.
    """
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
