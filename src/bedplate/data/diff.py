"""What differs between two versions of a table: columns, counts and files, which the log tells, and rows, where they are asked for.

Two versions of a table mostly share their files, so rows are compared only among the files that one version has and the other has not:
what both list cancels out. What Bedplate adds to a row (when it arrived, its place in the source) is not compared, so a file that was
read again is no change.
Does not know: how a version is named, or who asks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import pyarrow as pa

from bedplate.data.lake import StoredFile, Table
from bedplate.data.schema import SYSTEM

SAMPLES = 10


@dataclass(frozen=True)
class Files:
    """How many files, and the rows and bytes in them."""

    count: int
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class RowChanges:
    """Rows that only one version has. With a key, rows of a key that both have are `changed`, counted by key; without one there are none.

    `samples` holds some of each: `added` and `removed` rows, and for `changed` a mapping with `before` and `after`.
    """

    added: int
    removed: int
    changed: int
    samples: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class TableDiff:
    """From one version to another. Columns map to their types; `changes` is None where rows were not asked for."""

    columns_added: Mapping[str, str]
    columns_removed: Mapping[str, str]
    columns_changed: Mapping[str, tuple[str, str]]
    rows_before: int
    rows_after: int
    files_added: Files
    files_removed: Files
    files_kept: Files
    changes: RowChanges | None = None

    @property
    def same_columns(self) -> bool:
        """Whether both have the same columns of the same types."""
        return not (self.columns_added or self.columns_removed or self.columns_changed)

    @property
    def same_files(self) -> bool:
        """Whether both list the same files, so that their rows are the same."""
        return not (self.files_added.count or self.files_removed.count)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as `--json` prints it."""
        return asdict(self)


def compare(before: Table, after: Table, key: Sequence[str] = (), rows: bool = False, samples: int = SAMPLES) -> TableDiff:
    """What leads from `before` to `after`, two handles on one table; with `rows` also which rows, by `key`, `samples` of each sort.

    Without `rows`, or where the files are the same, no file is opened.
    """
    old, new = before.files(), after.files()
    gone, come = [path for path in old if path not in new], [path for path in new if path not in old]
    was, now = _types(before.schema), _types(after.schema)
    changed = {name: (was[name], now[name]) for name in was if name in now and was[name] != now[name]}
    shared = [name for name in was if name in now and name not in SYSTEM.names]
    return TableDiff(
        columns_added={name: kind for name, kind in now.items() if name not in was},
        columns_removed={name: kind for name, kind in was.items() if name not in now},
        columns_changed=changed,
        rows_before=sum(each.rows for each in old.values()),
        rows_after=sum(each.rows for each in new.values()),
        files_added=_files(new[path] for path in come),
        files_removed=_files(old[path] for path in gone),
        files_kept=_files(new[path] for path in new if path in old),
        changes=_changes(before, gone, after, come, shared, [name for name in key if name in shared], samples) if rows else None,
    )


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def _files(files: Iterable[StoredFile]) -> Files:
    listed = list(files)
    return Files(len(listed), sum(each.rows for each in listed), sum(each.size_bytes for each in listed))


def _changes(
    before: Table, gone: Sequence[str], after: Table, come: Sequence[str], columns: Sequence[str], key: Sequence[str], samples: int
) -> RowChanges:
    """The multiset difference of the rows in `gone` and in `come`, over `columns`, in DuckDB, which spills what memory cannot hold."""
    if not columns or not (gone or come):
        return RowChanges(0, 0, 0, {"added": [], "removed": [], "changed": []})
    with tempfile.TemporaryDirectory(prefix="bedplate-diff-") as spill:
        connection = duckdb.connect(config={"python_enable_replacements": "false", "temp_directory": spill})
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("rows_before", before.reading(gone))
            connection.register("rows_after", after.reading(come))
            return _compared(connection, columns, key, samples)
        finally:
            connection.close()


def _compared(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], key: Sequence[str], samples: int) -> RowChanges:
    listed, keyed = _names(columns), _names(key)
    for name, one, other in (("gone", "rows_before", "rows_after"), ("come", "rows_after", "rows_before")):
        connection.execute(f"CREATE TABLE {name} AS SELECT {listed} FROM {one} EXCEPT ALL SELECT {listed} FROM {other}")  # noqa: S608 - quoted names
    if not key:
        added, removed = (_sample(connection, f"SELECT * FROM {name} ORDER BY ALL", samples) for name in ("come", "gone"))  # noqa: S608 - no input
        return RowChanges(_count(connection, "come"), _count(connection, "gone"), 0, {"added": added, "removed": removed, "changed": []})
    connection.execute(f"CREATE TABLE met AS SELECT {keyed} FROM gone INTERSECT SELECT {keyed} FROM come")  # noqa: S608 - quoted names
    for name, of in (("added", "come"), ("removed", "gone")):
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {of} WHERE NOT EXISTS (FROM met WHERE {_equal(key, of)})")  # noqa: S608 - quoted names
    first = f"SELECT DISTINCT ON ({keyed}) * FROM {{}} ORDER BY ALL"  # noqa: S608 - quoted names
    pairs = f"""SELECT "old" AS "before", "new" AS "after" FROM met
        JOIN ({first.format("gone")}) AS "old" ON {_equal(key, '"old"')} JOIN ({first.format("come")}) AS "new" ON {_equal(key, '"new"')}
        ORDER BY {", ".join(f"met.{_quoted(name)}" for name in key)}"""  # noqa: S608 - quoted names
    found = {name: _sample(connection, f"SELECT * FROM {name} ORDER BY {keyed}", samples) for name in ("added", "removed")}  # noqa: S608 - quoted
    counts = {name: _count(connection, name) for name in ("added", "removed", "met")}
    return RowChanges(counts["added"], counts["removed"], counts["met"], {**found, "changed": _sample(connection, pairs, samples)})


def _equal(key: Sequence[str], of: str) -> str:
    return " AND ".join(f"met.{_quoted(name)} IS NOT DISTINCT FROM {of}.{_quoted(name)}" for name in key)


def _names(columns: Sequence[str]) -> str:
    return ", ".join(map(_quoted, columns))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _count(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    [(count,)] = connection.execute(f"SELECT count(*) FROM {name}").fetchall()  # noqa: S608 - a table of ours
    return int(count)


def _sample(connection: duckdb.DuckDBPyConnection, query: str, samples: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.sql(f"{query} LIMIT {int(samples)}").to_arrow_table().to_pylist()
    return found
