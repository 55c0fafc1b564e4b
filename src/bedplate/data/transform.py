"""A table made of other tables: by a query, or by a function over Arrow tables.

In a query each dataset is a table with its stored and derived columns and `_known_at`, when the row was known. An incremental query
(`query`) is run over the rows that came since, and its rows keep the places (`_partition`, `_offset`) of those they come from: how far it
came is in the commit that holds its rows, as with a stream. Any other result is replaced as a whole, sorted by the key, else by all
columns, so that the same rows have the same places.
A row of a result was known when it says so (`_known_at`); else, of an incremental query, when the row was that it comes from, and of any
other when the last row was of all that went in: later than need be, never earlier.
DuckDB runs in memory and goes on on disk where memory ends, without network or other files.
Does not know: when to run, or which versions are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from bedplate.core.digest import digest
from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType, Dataset
from bedplate.data.cut import Cut
from bedplate.data.expression import explained, quoted
from bedplate.data.lake import Lake
from bedplate.data.query import KNOWN_AT, OFFSET, PARTITION, Query
from bedplate.data.schema import ARROW, INSTANT, SYSTEM, Shape, declared_type
from bedplate.data.target import Target, epoch_of

_FORMAT = 1
_BATCH_ROWS = 100_000
_TOPIC = "transform"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """A dataset that goes in: its declaration, and which version of its table (a commit, its digest, offsets by partition)."""

    name: str
    dataset: Dataset
    version: int
    digest: str
    offsets: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a result goes: the lake, and a folder of its own for what does not fit into memory; the limit is DuckDB's where it is None."""

    lake: Lake
    scratch: Path
    memory_bytes: int | None = None


def run_query(name: str, dataset: Dataset, query: Query, parts: Sequence[Part], place: Place, progress: Progress) -> Cut:
    """Make table `name` hold the query's result and return the cut; nothing is committed when it does. `progress` is told (rows, rows).

    Raises DataError for what DuckDB says of the query, and for a result that no table can hold.
    """
    if query.why_full:
        names = [[part.name, part.digest, part.dataset.model_dump(mode="json")] for part in parts]
        source = digest([_FORMAT, "sql", query.text, *_declared(dataset), names])
        return _full(name, source, place, lambda spool: _spool_query(name, dataset, query, parts, place, spool, progress))
    return _incremental(name, dataset, query, parts[0], place, progress)


def store_table(name: str, dataset: Dataset, rows: pa.Table, code: str, parts: Sequence[Part], place: Place) -> Cut:
    """Make table `name` hold `rows`, which a function with the digest `code` made of `parts`. Raises DataError for what no table holds."""
    source = digest([_FORMAT, "python", code, *_declared(dataset), [[part.name, part.digest] for part in parts]])

    def spool(path: Path) -> tuple[Shape, int]:
        with _connected(place) as connection:
            connection.register("made", rows)
            latest = _latest(connection, parts, place.lake) if KNOWN_AT not in rows.column_names else None
            return _spool(name, dataset, connection, "SELECT * FROM made", path, latest, lambda *_: None)

    return _full(name, source, place, spool)


def _declared(dataset: Dataset) -> list[object]:
    return [list(dataset.columns.items()), list(dataset.key)]


def _full(name: str, source: str, place: Place, spooled: Callable[[Path], tuple[Shape, int]]) -> Cut:
    with place.lake.held(name):
        table = place.lake.table(name)
        if table is None or not Target(table, source, _TOPIC).current:
            place.scratch.mkdir(parents=True, exist_ok=True)
            spool = place.scratch / "rows.arrow"
            shape, rows = spooled(spool)
            target = Target(place.lake.create(name, shape.arrow), source, _TOPIC)
            target.replace(lambda: pa.ipc.open_stream(pa.memory_map(str(spool))), {0: rows})
            spool.unlink()
            table = target.table
    return Cut(name, table.version, table.rows, 0, {0: table.rows}, digest([_FORMAT, source]))


def _incremental(name: str, dataset: Dataset, query: Query, part: Part, place: Place, progress: Progress) -> Cut:
    lake = place.lake
    handle = lake.table(part.name, part.version)
    assert handle is not None  # the version was recorded
    names = [part.name, part.dataset.model_dump(mode="json"), epoch_of(handle), list(handle.schema.names)]
    source = digest([_FORMAT, "rows", query.text, *_declared(dataset), names])
    with lake.held(name):
        table = lake.table(name)
        before = Target(table, source, part.name) if table is not None else None
        begun = before is not None and before.current
        starts = {partition: before.offset(partition) if before is not None and begun else 0 for partition in part.offsets}
        if not begun or any(starts[partition] < end for partition, end in part.offsets.items()):
            place.scratch.mkdir(parents=True, exist_ok=True)
            spool = place.scratch / "rows.arrow"
            shape = _spool_rows(name, dataset, query, part, starts, place, spool, progress)
            target = Target(lake.create(name, shape.arrow), source, part.name)
            if begun:
                new = pa.ipc.open_stream(pa.memory_map(str(spool))).read_all()
                target.append(lambda _: new, part.offsets)  # under the lock nobody else came further
                target.table.compact()
            else:
                target.replace(lambda: pa.ipc.open_stream(pa.memory_map(str(spool))), part.offsets)
            spool.unlink()
            table = target.table
    assert table is not None  # made above, or there before
    return Cut(name, table.version, table.rows, 0, dict(part.offsets), digest([_FORMAT, source, sorted(part.offsets.items())]))


def _spool_query(
    name: str, dataset: Dataset, query: Query, parts: Sequence[Part], place: Place, path: Path, progress: Progress
) -> tuple[Shape, int]:
    with _connected(place) as connection:
        columns = [column for part in parts for column in _view(connection, part, place.lake, places=False)]
        with explained(f"sql of dataset {name!r}", query.text, columns):
            kinds = _kinds(connection, query.text)
            latest = None if KNOWN_AT in kinds else _latest(connection, parts, place.lake)
            return _spool(name, dataset, connection, query.text, path, latest, progress)


def _spool_rows(
    name: str, dataset: Dataset, query: Query, part: Part, starts: Mapping[int, int], place: Place, path: Path, progress: Progress
) -> Shape:
    with _connected(place) as connection:
        columns = _view(connection, part, place.lake, places=True, starts=starts)
        with explained(f"sql of dataset {name!r}", query.text, columns):
            text = query.with_places(arrival=KNOWN_AT not in _kinds(connection, query.with_places(arrival=False)))
            return _spool(name, dataset, connection, text, path, None, progress)[0]


@contextmanager
def _connected(place: Place) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = place.scratch / "spill"
    spill.mkdir(parents=True, exist_ok=True)
    limit = {"memory_limit": f"{place.memory_bytes}B"} if place.memory_bytes else {}
    settings: dict[str, Any] = {
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "temp_directory": str(spill),
        **limit,
    }
    connection = duckdb.connect(config=settings)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def _view(
    connection: duckdb.DuckDBPyConnection, part: Part, lake: Lake, *, places: bool, starts: Mapping[int, int] | None = None
) -> list[str]:
    """Let a dataset be a table of the connection, of rows at or behind `starts`; returns its columns."""
    stored = lake.dataset(part.name, part.version)
    connection.register(f"_stored_{part.name}", stored)
    dataset = part.dataset
    columns = list(dataset.columns) or [column for column in stored.schema.names if column not in SYSTEM.names]
    derived = [f"({expression}) AS {quoted(column)}" for column, expression in dataset.derive.items()]
    known = _known_at(dataset)
    ends = " OR ".join(f"(_partition = {number} AND _offset < {end})" for number, end in part.offsets.items())
    later = " OR ".join(f"(_partition = {number} AND _offset >= {start})" for number, start in (starts or {}).items())
    where = " AND ".join(f"({each})" for each in (ends, later) if each)
    select = ", ".join([*map(quoted, columns), *derived, f"{known} AS {KNOWN_AT}", *([PARTITION, OFFSET] if places else [])])
    filtered = f" WHERE {where}" if where and places else ""
    source = f"{quoted(f'_stored_{part.name}')}{filtered}"
    connection.execute(f"CREATE VIEW {quoted(part.name)} AS SELECT {select} FROM {source}")  # noqa: S608 - quoted names, the user's own expressions
    return [*columns, *dataset.derive, KNOWN_AT]


def _known_at(dataset: Dataset) -> str:
    """When a row was known, as an expression over stored columns (the rule of `cut`)."""
    if dataset.known_at is None:
        return "_arrived_at"
    return quoted(dataset.known_at) if dataset.backfill == "trusted" else f"greatest({quoted(dataset.known_at)}, _arrived_at)"


def _latest(connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], lake: Lake) -> int:
    """When the last row of all parts was known, in microseconds; 0 where there is none."""
    latest = 0
    for part in parts:
        name = f"_stored_{part.name}"
        connection.register(name, lake.dataset(part.name, part.version))
        [(found,)] = connection.execute(f"SELECT epoch_us(max({_known_at(part.dataset)})) FROM {quoted(name)}").fetchall()  # noqa: S608 - quoted names
        latest = max(latest, int(found or 0))
    return latest


def _kinds(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, pa.DataType]:
    """The columns of a result and their Arrow types, without computing it."""
    found: pa.Table = connection.sql(f"SELECT * FROM ({text}) LIMIT 0").to_arrow_table()  # noqa: S608 - the user's own query
    return {each.name: each.type for each in found.schema}


def _spool(
    name: str,
    dataset: Dataset,
    connection: duckdb.DuckDBPyConnection,
    text: str,
    path: Path,
    latest_us: int | None,
    progress: Progress,
) -> tuple[Shape, int]:
    """Write a result to a file of Arrow, in the form in which it is stored; rows without a place are sorted and numbered."""
    kinds = _kinds(connection, text)
    shape = _shape(name, dataset, kinds)
    placed = OFFSET in kinds
    order = "" if placed else f" ORDER BY {', '.join(map(quoted, dataset.key)) or 'ALL'}"
    if not placed and dataset.key:
        order += "".join(f", {quoted(column)}" for column in kinds if column not in dataset.key)
    casts = [f"CAST({quoted(column)} AS {_SQL[kind]}) AS {quoted(column)}" for column, kind in shape.columns.items()]
    kept = [column for column in (KNOWN_AT, PARTITION, OFFSET) if column in kinds]
    sql = f"SELECT {', '.join([*casts, *kept])} FROM ({text}){order}"  # noqa: S608 - quoted names and the user's own query
    reader = connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
    rows = 0
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, shape.arrow) as writer:
        for batch in reader:
            writer.write_table(_stored(shape, pa.table(batch), rows, latest_us))
            rows += batch.num_rows
            progress(rows, rows)
    return shape, rows


_SQL: Mapping[ColumnType, str] = {"string": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "timestamp": "TIMESTAMPTZ"}


def _shape(name: str, dataset: Dataset, kinds: Mapping[str, pa.DataType]) -> Shape:
    found: dict[str, ColumnType] = {}
    for column, arrow in kinds.items():
        if column in (KNOWN_AT, PARTITION, OFFSET):
            continue
        kind = declared_type(arrow)
        if kind is None:
            fix = "cast it to a number, text, bool or timestamp, or leave it out"
            raise DataError(f"column {column!r} of dataset {name!r} has type {arrow}", value=column, fix=fix)
        found[column] = kind
    missing = [column for column in dataset.columns if column not in found]
    if missing:
        fix = "select them, or correct `columns:`"
        raise DataError(f"the result of dataset {name!r} lacks declared columns", value=", ".join(missing), fix=fix)
    if KNOWN_AT in kinds and not pat.is_timestamp(kinds[KNOWN_AT]):
        raise DataError(f"{KNOWN_AT} of dataset {name!r} is no timestamp", value=str(kinds[KNOWN_AT]), fix="select a timestamp, or none")
    return Shape(name, dict(dataset.columns) or found, dataset.key)


def _stored(shape: Shape, rows: pa.Table, first: int, latest_us: int | None) -> pa.Table:
    """Rows with the system's columns. Raises DataError for a null in a key."""
    for column in shape.key:
        if rows[column].null_count:
            fix = "filter such rows out, or leave the column out of `key:`"
            raise DataError(f"the key of dataset {shape.table!r} has nulls", value=column, fix=fix)
    count = rows.num_rows
    if KNOWN_AT in rows.column_names:
        arrived = rows[KNOWN_AT].cast(INSTANT)
        if arrived.null_count:
            fix = "select when each row was known"
            raise DataError(f"{KNOWN_AT} of dataset {shape.table!r} has nulls", value=arrived.null_count, fix=fix)
    else:
        arrived = pa.chunked_array([pa.repeat(pa.scalar(latest_us or 0, pa.int64()), count).cast(INSTANT)])
    placed = OFFSET in rows.column_names
    partitions = rows[PARTITION].cast(pa.int32()) if placed else pa.repeat(pa.scalar(0, pa.int32()), count)
    offsets = rows[OFFSET] if placed else pa.array(range(first, first + count), pa.int64())
    columns: list[Any] = [pc.cast(rows[name], ARROW[kind]) for name, kind in shape.columns.items()]
    return pa.Table.from_arrays([*columns, arrived, partitions, offsets], schema=shape.arrow)
