"""Feature views: the events of a dataset as prefix sums, or its rows as of a time, in files that the join and the online store read.

A windowed view holds, per entity and time at which something became known, how many values there were up to then and their sum, as
integers: a window (T - W, T] is the difference of two of them, exact in any order of summing. Float columns are rounded to a quantum
of 1e-6 before they are summed (half to even); nulls and NaN are not counted. An as-of view holds per entity and known time the row with
the greatest event time among those known by then (ties: the later known, then the later offset). Rows with a null entity or a null
known time feed nothing; nor, as of a time, do rows whose declared event time is null.

So that a row of a training set never sees the event that became of itself, both kinds also hold the events by the dataset's key.
Does not know: spines or requests (`data.join`, `data.online`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bedplate.core.atomic import write_bytes, write_json
from bedplate.core.clock import duration_s
from bedplate.core.digest import digest, digest_file
from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import ColumnType, Dataset, Feature
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Bools, Ints, column, column_type, encode, microseconds, validity

QUANTA_PER_UNIT = 1_000_000  # of a float column; integer columns are summed as they are
SIDECAR = "view.json"
_FORMAT = 1
_SUM_END = 2.0**63 * (1 - 1e-6)  # compared with a float sum, hence the margin


@dataclass(frozen=True)
class Window:
    """A window as it was written, and its length in microseconds."""

    text: str
    length_us: int


@dataclass(frozen=True)
class Aggregated:
    """An aggregated column: which aggregates, and how many integer units of its prefix sums make 1 (1 for an integer column)."""

    column: str
    aggregates: tuple[str, ...]
    scale: int


@dataclass(frozen=True)
class View:
    """A materialised feature view in `folder`.

    `columns` are the output columns with their types; `key` is the dataset's. `cut` says which rows it was made of: their number and
    the last offset of each partition. `digest` covers the definition and the bytes of all files.
    """

    name: str
    kind: Literal["windowed", "asof"]
    dataset: str
    entity: tuple[str, ...]
    key: tuple[str, ...]
    columns: tuple[tuple[str, ColumnType], ...]
    windows: tuple[Window, ...]
    aggregated: tuple[Aggregated, ...]
    values: tuple[str, ...]
    rows: int
    cut: Mapping[str, Any]
    files: Mapping[str, str]
    digest: str
    folder: Path

    def load(self, file: str) -> pa.Table:
        """One of the view's tables, memory-mapped: entities, prefix, keys, own or values. Raises DataError when it is damaged."""
        path = self.folder / f"{file}.arrow"
        if digest_file(path) != self.files[path.name]:
            raise DataError("a file of a feature view is damaged", value=str(path), fix=f"make it again: bedplate run {self.name} --force")
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()


def materialize(name: str, feature: Feature, dataset: Dataset, table: pa.Table, out: Path) -> View:
    """Compute the view `name` over a cut of its dataset into folder `out`. `view.json` is written last: without it there is no view.

    Raises DataError for an unknown column, a column that cannot be aggregated, or sums that leave 64 bits.
    """
    owner = feature.from_
    known, is_known = microseconds(column(table, KNOWN_AT, owner), f"{owner}.{KNOWN_AT}")
    entity, entities = encode(table, feature.entity, owner)
    events = _Events(table, owner, known, entity, (entity >= 0) & is_known)
    made = _windowed(feature, dataset, events) if feature.aggregates else _asof(name, feature, dataset, events)
    made.tables["entities"] = entities
    files = {}
    for file, content in sorted(made.tables.items()):
        path = out / f"{file}.arrow"
        write_bytes(path, _ipc(content))
        files[path.name] = digest_file(path)
    columns = _outputs(name, feature, made)
    sidecar = {
        "format": _FORMAT,
        "name": name,
        "kind": "windowed" if feature.aggregates else "asof",
        "dataset": owner,
        "entity": list(feature.entity),
        "key": list(dataset.key),
        "columns": [list(pair) for pair in columns],
        "windows": [[text, round(duration_s(text) * 1e6)] for text in feature.windows],
        "aggregated": [[part.column, list(part.aggregates), part.scale] for part in made.aggregated],
        "values": list(feature.columns),
        "rows": made.tables["prefix"].num_rows,
        "cut": cut_of(table),
        "files": files,
    }
    write_json(out / SIDECAR, sidecar)
    return open_view(out)


def open_view(folder: Path) -> View:
    """The view that `materialize` wrote into `folder`. Raises NotFound when there is none."""
    path = folder / SIDECAR
    if not path.is_file():
        raise NotFound("there is no feature view", value=str(folder), fix="run its feature step")
    values = json.loads(path.read_bytes())
    return View(
        name=values["name"],
        kind=values["kind"],
        dataset=values["dataset"],
        entity=tuple(values["entity"]),
        key=tuple(values["key"]),
        columns=tuple((name, kind) for name, kind in values["columns"]),
        windows=tuple(Window(text, length) for text, length in values["windows"]),
        aggregated=tuple(Aggregated(name, tuple(parts), scale) for name, parts, scale in values["aggregated"]),
        values=tuple(values["values"]),
        rows=values["rows"],
        cut=values["cut"],
        files=values["files"],
        digest=digest(values),
        folder=folder,
    )


def cut_of(table: pa.Table) -> dict[str, Any]:
    """Which rows a table holds: how many, and the last offset of each partition."""
    ends = table.select([PARTITION, OFFSET]).group_by(PARTITION).aggregate([(OFFSET, "max")]).to_pydict()
    pairs = zip(ends[PARTITION], ends[f"{OFFSET}_max"], strict=True)
    return {"rows": table.num_rows, "ends": {str(partition): end for partition, end in sorted(pairs)}}


def quanta(values: npt.NDArray[Any], owner: str) -> Ints:
    """Floats in integer units of 1e-6, rounded half to even; integers and bools as they are.

    Raises DataError for a float beyond 9.2e12, which does not fit 64 bits so.
    """
    if values.dtype.kind != "f":
        return np.asarray(values, np.int64)
    with np.errstate(over="ignore"):
        scaled = np.rint(values * QUANTA_PER_UNIT)
    if not bool(np.all(np.abs(scaled) < 2.0**63)):
        worst = float(values[np.argmax(np.abs(scaled))])
        raise DataError(f"a value of {owner} is too large to be summed exactly", value=worst, fix="derive a column in a larger unit")
    whole: Ints = scaled.astype(np.int64)
    return whole


def finish(aggregate: str, counts: Ints, totals: Ints, scale: int) -> npt.NDArray[Any]:
    """The values of an aggregate from the counts and integer sums of windows; the mean of an empty one is NaN.

    The one definition for training and for serving. A sum is int64 for an integer column, else float64.
    """
    if aggregate == "count":
        return counts
    if aggregate == "sum":
        return totals if scale == 1 else totals.astype(np.float64) / scale
    divisor = np.where(counts > 0, (counts * scale).astype(np.float64), np.nan)
    return totals.astype(np.float64) / divisor


def feature_name(view: str, *parts: str) -> str:
    """The name of an output column: `route_gain__gain__mean__6h`, `origin_weather__wind_speed`."""
    return "__".join((view, *parts))


@dataclass(frozen=True)
class _Events:
    table: pa.Table
    owner: str
    known: Ints
    entity: Ints
    counted: Bools


@dataclass(frozen=True)
class _Made:
    tables: dict[str, pa.Table]
    aggregated: tuple[Aggregated, ...] = ()
    value_types: tuple[ColumnType, ...] = ()


def _windowed(feature: Feature, dataset: Dataset, events: _Events) -> _Made:
    aggregated, numbers = [], []
    for name, aggregates in feature.aggregates.items():
        array = column(events.table, name, events.owner)
        kind = column_type(array.type, events.owner)
        if kind not in ("int", "float", "bool"):
            raise DataError(f"{events.owner}.{name} is no number to aggregate", value=kind, fix="derive a number from it")
        counted, amounts = _amounts(array, f"{events.owner}.{name}")
        aggregated.append(Aggregated(name, aggregates, QUANTA_PER_UNIT if kind == "float" else 1))
        numbers += [counted, amounts]
    tables = {"prefix": _prefix(events.entity, events.known, numbers, events.counted)}
    if dataset.key:
        key, tables["keys"] = encode(events.table, dataset.key, events.owner)
        own = key * (int(events.entity.max(initial=0)) + 1) + events.entity
        tables["own"] = _prefix(own, events.known, numbers, events.counted & (key >= 0))
    return _Made(tables, aggregated=tuple(aggregated))


def _amounts(array: Any, owner: str) -> tuple[Ints, Ints]:
    valid = validity(array)
    values = array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        valid &= ~np.isnan(values)
    amounts = quanta(np.where(valid, values, 0), owner)
    return valid.astype(np.int64), amounts


def _prefix(groups: Ints, known: Ints, numbers: Sequence[Ints], counted: Bools) -> pa.Table:
    """Per group and known time the running totals, ordered by both: columns group, at, and one for each of `numbers`."""
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((known[rows], groups[rows]))]
    group, at = groups[rows], known[rows]
    new_group = np.diff(group, prepend=-1) != 0
    starts = np.flatnonzero(new_group)
    ends = np.flatnonzero(np.append((np.diff(group) != 0) | (np.diff(at) != 0), True)) if len(rows) else starts
    sizes = np.diff(np.append(starts, len(rows)))
    columns = {"group": group[ends], "at": at[ends]}
    for place, number in enumerate(numbers):
        ordered = number[rows]
        if len(starts) and np.add.reduceat(np.abs(ordered.astype(np.float64)), starts).max() >= _SUM_END:
            raise DataError("the sum of a column leaves 64 bits", fix="derive a column in a larger unit")
        running = np.cumsum(ordered)
        before = np.repeat(running[starts] - ordered[starts], sizes)
        columns[f"n{place}"] = (running - before)[ends]
    return pa.table(columns)


def _asof(name: str, feature: Feature, dataset: Dataset, events: _Events) -> _Made:
    table = events.table
    event, has_event = events.known, np.ones(table.num_rows, bool)
    if dataset.event_time:
        event, has_event = microseconds(column(table, dataset.event_time, events.owner), f"{events.owner}.{dataset.event_time}")
    key = np.full(table.num_rows, -1, np.int64)
    tables: dict[str, pa.Table] = {}
    if dataset.key:
        key, tables["keys"] = encode(table, dataset.key, events.owner)
    rows = np.flatnonzero(events.counted & has_event)
    partition, offset = (table.column(part).to_numpy()[rows] for part in (PARTITION, OFFSET))
    by_rank = rows[np.lexsort((offset, partition, events.known[rows], event[rows]))]
    rank = np.empty(table.num_rows, np.int64)
    rank[by_rank] = np.arange(len(by_rank))
    ordered = by_rank[np.lexsort((events.known[by_rank], events.entity[by_rank]))]
    group, at = events.entity[ordered], events.known[ordered]
    best = np.maximum.accumulate(group * len(rank) + rank[ordered]) - group * len(rank)
    other = _runners_up(group, rank[ordered], key[ordered]) if dataset.key else np.full(len(ordered), -1, np.int64)
    last = np.append((np.diff(group) != 0) | (np.diff(at) != 0), True) if len(ordered) else np.zeros(0, bool)
    prefix = {"group": group[last], "at": at[last], "best": best[last], "other": other[last], "key": key[by_rank][best[last]]}
    tables["prefix"] = pa.table(prefix)
    tables["values"] = pa.table({value: column(table, value, events.owner) for value in feature.columns}).take(by_rank)
    return _Made(tables, value_types=tuple(column_type(field.type, name) for field in tables["values"].schema))


def _runners_up(group: Ints, rank: Ints, key: Ints) -> Ints:
    """At each row the greatest rank so far in its group among rows whose key is not that of the greatest one; -1 for none."""
    result = []
    current, best, best_key, other = -1, -1, -1, -1
    for its_group, its_rank, its_key in zip(group.tolist(), rank.tolist(), key.tolist(), strict=True):
        if its_group != current:
            current, best, best_key, other = its_group, -1, -1, -1
        if its_rank > best:
            other = other if its_key == best_key else best
            best, best_key = its_rank, its_key
        elif its_key != best_key:
            other = max(other, its_rank)
        result.append(other)
    return np.array(result, np.int64)


def _outputs(name: str, feature: Feature, made: _Made) -> list[tuple[str, ColumnType]]:
    if not feature.aggregates:
        return [(feature_name(name, value), kind) for value, kind in zip(feature.columns, made.value_types, strict=True)]
    outputs: list[tuple[str, ColumnType]] = []
    for part in made.aggregated:
        for aggregate in part.aggregates:
            whole = aggregate == "count" or (aggregate == "sum" and part.scale == 1)
            outputs += [(feature_name(name, part.column, aggregate, window), "int" if whole else "float") for window in feature.windows]
    return outputs


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
