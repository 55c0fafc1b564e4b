"""A cut: one version of a dataset's table, and how it is read: stored columns, derived ones, and the time at which each row was known.

    _known_at   with `backfill: trusted` the column that `known_at` names (null: never known); else the later of it and `_arrived_at`

Derived columns are expressions of DuckDB's SQL over the stored columns of the row, evaluated without files or network, in UTC.
Does not know: how rows got there (`ingest`), or what features are made of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import Dataset
from bedplate.data.expression import confined, explained
from bedplate.data.lake import Lake
from bedplate.data.schema import ARROW, INSTANT, SYSTEM, declared_type


@dataclass(frozen=True)
class Cut:
    """What an ingestion made: version `table_version` of the Delta table `table`.

    `digest` names the content (source, offsets, columns), not the commits: compaction does not change it. `offsets` has for each partition
    the offset of the next record, for a file {0: rows}. `rows` are in the table and `quarantined` are not; `reasons` counts the most
    frequent ones. `ignored` counts the fields that nobody declared among the records that this ingestion read.
    """

    table: str
    table_version: int
    rows: int
    quarantined: int
    offsets: Mapping[int, int]
    digest: str
    reasons: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)


def read_cut(
    lake: Lake,
    name: str,
    version: int,
    dataset: Dataset,
    since: Mapping[int, int] | None = None,
    columns: Collection[str] | None = None,
) -> pa.Table:
    """The rows of a version, ordered by (_partition, _offset); with `since` only those from an offset of their partition on.

    Columns: the stored ones in the declared types, the derived ones, `_known_at` (timestamp[us, UTC]), `_arrived_at`, `_partition` (int32),
    `_offset` (int64); with `columns` at least those named, `_known_at`, `_partition` and `_offset`. Raises NotFound for a table or version
    that is not there and DataError for a column or an expression that is wrong.
    """
    every = [*dataset.columns, *SYSTEM.names] if dataset.columns else None
    read = every if columns is None else _needed(lake, name, version, dataset, columns) or every
    table = _ordered(lake.read(name, version, read, _from(since or {})))
    stored = table.select([column for column in table.column_names if column not in SYSTEM.names])
    for column, values in _derived(name, dataset, stored).items():
        stored = stored.append_column(column, values)
    whole = stored.append_column("_known_at", _known_at(name, dataset, stored, table))
    for column in SYSTEM.names:
        if column in table.column_names:
            whole = whole.append_column(column, table[column])
    return whole


def _needed(lake: Lake, name: str, version: int, dataset: Dataset, columns: Collection[str]) -> list[str] | None:
    """The stored columns that these are read from; None, for all, where an expression may read any or a column is not there."""
    there = dataset.columns or lake.dataset(name, version).schema.names
    wanted = {column for column in columns if column not in ("_known_at", *SYSTEM.names)} | {*filter(None, [dataset.known_at])}
    if dataset.derive or not wanted <= set(there):
        return None
    arrived = [] if dataset.backfill == "trusted" else ["_arrived_at"]
    return [*(column for column in there if column in wanted), *arrived, "_partition", "_offset"]


def _from(since: Mapping[int, int]) -> pc.Expression | None:
    """Rows from these offsets on, and all of partitions that are not named."""
    if not since:
        return None
    later = ~pc.field("_partition").isin(list(since))
    for partition, offset in since.items():
        later |= (pc.field("_partition") == partition) & (pc.field("_offset") >= offset)
    return later


def _ordered(table: pa.Table) -> pa.Table:
    offsets, partitions = table["_offset"].to_numpy(), table["_partition"].to_numpy()
    same = partitions[1:] == partitions[:-1]
    if ((partitions[1:] > partitions[:-1]) | (same & (offsets[1:] > offsets[:-1]))).all():
        return table
    return table.take(pa.array(np.lexsort((offsets, partitions)), pa.int64()))


def _known_at(name: str, dataset: Dataset, stored: pa.Table, table: pa.Table) -> pa.ChunkedArray[Any]:
    trusted = dataset.backfill == "trusted"
    if dataset.known_at is None:
        if trusted:
            fix = f"add `known_at: COLUMN` to datasets.{name}"
            raise DataError("a trusted backfill needs the column that says when rows were known", value=name, fix=fix)
        return table["_arrived_at"]
    if dataset.known_at not in stored.column_names:
        fix = nearest(dataset.known_at, stored.column_names)
        raise DataError(f"known_at of dataset {name!r} names no column", value=dataset.known_at, fix=fix)
    known = stored[dataset.known_at]
    if known.type != INSTANT:
        raise DataError(
            f"known_at of dataset {name!r} is no timestamp", value=str(known.type), fix=f"declare {dataset.known_at}: timestamp"
        )
    if trusted:
        return known
    later = pc.max_element_wise(known.cast(pa.int64()), table["_arrived_at"].cast(pa.int64()))  # there is no such kernel for instants
    return cast("pa.ChunkedArray[Any]", later).cast(INSTANT)


def _derived(name: str, dataset: Dataset, stored: pa.Table) -> dict[str, pa.ChunkedArray[Any]]:
    if not dataset.derive:
        return {}
    with confined(stored) as connection:
        return {column: _evaluated(connection, name, column, expression, stored) for column, expression in dataset.derive.items()}


def _evaluated(connection: duckdb.DuckDBPyConnection, name: str, column: str, expression: str, stored: pa.Table) -> pa.ChunkedArray[Any]:
    where = f"derive of dataset {name!r}, column {column!r}"
    with explained(where, expression, stored.column_names):
        found: pa.Table = connection.sql(f"SELECT (\n{expression}\n) AS value FROM stored").to_arrow_table()  # noqa: S608 - the user's own
    if found.num_rows != stored.num_rows:
        what = f"{where} gives {found.num_rows} values for {stored.num_rows} rows"
        raise DataError(what, value=expression, fix="use an expression over one row, not an aggregate")
    kind = declared_type(found.schema.field(0).type)
    if kind is None:
        raise DataError(
            f"{where} has type {found.schema.field(0).type}", value=expression, fix="cast it to a number, text, bool or timestamp"
        )
    return pc.cast(found["value"], ARROW[kind])
