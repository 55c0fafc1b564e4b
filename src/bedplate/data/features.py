"""Feature views: the events of a dataset as prefix sums, or its rows as of a time, in files that the join and the online store read.

A windowed view holds, per entity and time at which something became known, how many values there were up to then and their sum, as
integers: a window (T - W, T] is the difference of two of them, exact in any order of summing. Float columns are rounded to a quantum
of 1e-6 before they are summed (half to even); nulls and NaN are not counted. What is no such difference (min, max, last, distinct, what
decays) is found among the events themselves, which the view then holds in order (`data.ordered`).

An as-of view holds per entity and known time the row with the greatest event time among those known by then (ties: the later known, then
the later offset). Rows with a null entity or a null known time feed nothing; nor, as of a time, do rows whose declared event time is null.

So that a row of a training set never sees the event that became of itself, both kinds also hold the events by the dataset's key.
Does not know: spines or requests (`data.join`, `data.online`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bedplate.core.atomic import write_json
from bedplate.core.clock import duration_s
from bedplate.core.digest import digest, digest_file
from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import ColumnType, Dataset, Feature
from bedplate.data.arrow_file import Gathered, write
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Bools, Ints, column, column_type, encode, microseconds
from bedplate.data.latest import latest, runners_up
from bedplate.data.ordered import DECAYED, FROM_EVENTS, counted
from bedplate.data.ordering import order
from bedplate.data.threads import gathered, in_threads

QUANTA_PER_UNIT = 1_000_000  # of a float column; integer columns are summed as they are
SIDECAR = "view.json"
_FORMAT = 2
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

    def lengths(self, view: View, aggregate: str) -> tuple[Window, ...]:
        """The windows of an aggregate, or its half-lives where it decays."""
        return view.half_lives if aggregate in DECAYED else view.windows


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
    half_lives: tuple[Window, ...]
    ttl_us: int | None
    aggregated: tuple[Aggregated, ...]
    values: tuple[str, ...]
    rows: int
    cut: Mapping[str, Any]
    files: Mapping[str, str]
    digest: str
    folder: Path

    def load(self, file: str) -> pa.Table:
        """One of the view's tables, memory-mapped: entities, prefix, keys, own, events or values. Raises DataError when it is damaged."""
        path = self.folder / f"{file}.arrow"
        if digest_file(path) != self.files[path.name]:
            raise DataError("a file of a feature view is damaged", value=str(path), fix=f"make it again: bedplate run {self.name} --force")
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()


def materialize(name: str, feature: Feature, dataset: Dataset, table: pa.Table, out: Path) -> View:
    """Compute the view `name` over a cut of its dataset into folder `out`. `view.json` is written last: without it there is no view.

    Raises DataError for an unknown column, a column that cannot be aggregated, or sums that leave 64 bits.
    """
    make = _windowed if feature.aggregates else _asof
    needed = columns_of(feature, dataset)
    for each in needed:
        column(table.slice(0, 0), each, feature.from_)  # what is wrong is said before the work is done
    cut, ties = _places(table)
    held = [table.select(needed[:-2])]
    del table  # the memory of what has been read is wanted for what is made of it: only the callee holds the table
    made = make(feature, dataset, held.pop(), ties)
    names = sorted(made.tables)
    digests = in_threads(lambda file: write(out / f"{file}.arrow", made.tables[file]), names)
    columns = _outputs(name, feature, made)
    sidecar = {
        "format": _FORMAT,
        "name": name,
        "kind": "windowed" if feature.aggregates else "asof",
        "dataset": feature.from_,
        "entity": list(feature.entity),
        "key": list(dataset.key),
        "columns": [list(pair) for pair in columns],
        "windows": _lengths(feature.windows),
        "half_lives": _lengths(feature.half_lives),
        "ttl_us": round(duration_s(feature.ttl) * 1e6) if feature.ttl else None,
        "aggregated": [[part.column, list(part.aggregates), part.scale] for part in made.aggregated],
        "values": list(feature.columns),
        "rows": made.rows,
        "cut": cut,
        "files": {f"{file}.arrow": its for file, its in zip(names, digests, strict=True)},
    }
    write_json(out / SIDECAR, sidecar)
    return open_view(out)


def _lengths(texts: Sequence[str]) -> list[list[Any]]:
    return [[text, round(duration_s(text) * 1e6)] for text in texts]


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
        half_lives=tuple(Window(text, length) for text, length in values["half_lives"]),
        ttl_us=values["ttl_us"],
        aggregated=tuple(Aggregated(name, tuple(parts), scale) for name, parts, scale in values["aggregated"]),
        values=tuple(values["values"]),
        rows=values["rows"],
        cut=values["cut"],
        files=values["files"],
        digest=digest(values),
        folder=folder,
    )


def columns_of(feature: Feature, dataset: Dataset) -> list[str]:
    """The columns of a dataset that `materialize` reads: what a table needs to have, and need not have more."""
    named = [*feature.entity, *feature.columns, *feature.aggregates, *dataset.key, *filter(None, [dataset.event_time])]
    return [*dict.fromkeys([*named, KNOWN_AT]), PARTITION, OFFSET]


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
    """What both kinds of view are made of. `ties` are the partitions and offsets, or nothing where the rows are in their order."""

    owner: str
    known: Ints
    entity: Ints
    counted: Bools
    ties: Sequence[Ints]
    entities: pa.Table


@dataclass(frozen=True)
class _Made:
    tables: dict[str, pa.Table | Gathered]
    rows: int
    aggregated: tuple[Aggregated, ...] = ()
    value_types: tuple[ColumnType, ...] = ()  # of aggregated columns, or of the values of an as-of view


def _read(table: pa.Table, feature: Feature, ties: Sequence[Ints]) -> _Events:
    owner = feature.from_
    times = lambda: microseconds(column(table, KNOWN_AT, owner), f"{owner}.{KNOWN_AT}")  # noqa: E731 - two of a kind, side by side
    coded = lambda: encode(table, feature.entity, owner)  # noqa: E731 - as above
    (known, is_known), (entity, entities) = in_threads(lambda work: work(), [times, coded])
    return _Events(owner, known, entity, (entity >= 0) & is_known, ties, entities)


def _places(table: pa.Table) -> tuple[dict[str, Any], Sequence[Ints]]:
    """Which rows a table holds, how many and the last offset of each partition; and their partitions and offsets, to tell which came first.

    Nothing is told of rows that come in that order: they tell it themselves.
    """
    ends: dict[int, int] = {}
    last = (np.iinfo(np.int64).min, 0)
    for batch in table.select([PARTITION, OFFSET]).to_batches():
        partition, offset = (batch.column(place).to_numpy() for place in range(2))
        if not len(offset):
            continue
        same = partition[1:] == partition[:-1]
        in_order = ((partition[1:] > partition[:-1]) | (same & (offset[1:] > offset[:-1]))).all()
        if not in_order or (int(partition[0]), int(offset[0])) <= last:
            return _cut(table.num_rows, _greatest(table)), tuple(table.column(name).to_numpy() for name in (PARTITION, OFFSET))
        last = int(partition[-1]), int(offset[-1])
        for row in (*np.flatnonzero(~same).tolist(), -1):
            ends[int(partition[row])] = int(offset[row])
    return _cut(table.num_rows, ends), ()


def _greatest(table: pa.Table) -> dict[int, int]:
    ends = table.select([PARTITION, OFFSET]).group_by(PARTITION).aggregate([(OFFSET, "max")]).to_pydict()
    return dict(zip(ends[PARTITION], ends[f"{OFFSET}_max"], strict=True))


def _cut(rows: int, ends: Mapping[int, int]) -> dict[str, Any]:
    return {"rows": rows, "ends": {str(partition): ends[partition] for partition in sorted(ends)}}


def _windowed(feature: Feature, dataset: Dataset, table: pa.Table, ties: Sequence[Ints]) -> _Made:
    events = _read(table, feature, ties)
    aggregated: list[Aggregated] = []
    kinds: list[ColumnType] = []
    numbers: list[Ints] = []
    for name, aggregates in feature.aggregates.items():
        array = column(table, name, events.owner)
        kind = column_type(array.type, events.owner)
        if kind in ("string", "timestamp") and set(aggregates) & {"sum", "mean", *DECAYED}:
            raise DataError(f"{events.owner}.{name} is no number to aggregate", value=kind, fix="derive a number from it")
        aggregated.append(Aggregated(name, aggregates, QUANTA_PER_UNIT if kind == "float" else 1))
        kinds.append(kind)
        numbers += _numbers(array, {"sum", "mean"} & set(aggregates), f"{events.owner}.{name}")
    prefix = _prefix(events.entity, events.known, numbers, events.counted)
    tables: dict[str, pa.Table | Gathered] = {"prefix": prefix, "entities": events.entities}
    key = np.full(table.num_rows, -1, np.int64)
    if dataset.key:
        key, tables["keys"] = encode(table, dataset.key, events.owner)
        own = key * (int(events.entity.max(initial=0)) + 1) + events.entity
        tables["own"] = _prefix(own, events.known, numbers, events.counted & (key >= 0))
    looked_at = [part.column for part in aggregated if set(part.aggregates) & set(FROM_EVENTS)]
    if looked_at:
        tables["events"] = _in_order(events, dataset, table, key, looked_at)
    return _Made(tables, prefix.num_rows, tuple(aggregated), tuple(kinds))


def _in_order(events: _Events, dataset: Dataset, table: pa.Table, key: Ints, columns: Sequence[str]) -> pa.Table:
    """The events by entity, known time, event time (null first), partition and offset: columns group, at, key and those named."""
    happened, has_time = _happened(dataset, table, events)
    happened = np.where(has_time, happened, np.iinfo(np.int64).min)
    rows = _ordered(events, events.counted, happened)
    places: Any = pa.array(rows)
    taken = in_threads(lambda name: column(table, name, events.owner).take(places), columns)
    values = {f"value_{name}": each for name, each in zip(columns, taken, strict=True)}
    return pa.table({"group": _narrow(events.entity[rows]), "at": events.known[rows], "key": key[rows], **values})


def _happened(dataset: Dataset, table: pa.Table, events: _Events) -> tuple[Ints, Bools]:
    """When each event happened, and where that is not null: when it was known, for a dataset that declares nothing else."""
    if dataset.event_time is None:
        return events.known, np.ones(len(events.known), bool)
    return microseconds(column(table, dataset.event_time, events.owner), f"{events.owner}.{dataset.event_time}")


def _ordered(events: _Events, counted: Bools, happened: Ints) -> Ints:
    """The rows that count by entity, known time, event time, partition and offset."""
    return _order_of(events.entity, events.known, counted, lambda rows: (happened[rows], *(tie[rows] for tie in events.ties)))


def _order_of(groups: Ints, known: Ints, counted: Bools, ties: Callable[[Ints], Sequence[Ints]]) -> Ints:
    if counted.all():
        return order(groups, known, ties)
    rows = np.flatnonzero(counted)
    return rows[order(groups[rows], known[rows], lambda some: ties(rows[some]))]


def _narrow(codes: Ints) -> npt.NDArray[Any]:
    """Codes in 32 bits where they fit: half as much to write, to verify and to read."""
    return codes.astype(np.int32) if int(codes.max(initial=0)) < 2**31 else codes


def _in_groups(codes: Ints, counted: Bools) -> npt.NDArray[Any]:
    """The codes that count, in order."""
    sizes = np.bincount(codes if counted.all() else codes[counted])
    return np.repeat(_narrow(np.arange(len(sizes))), sizes)


def _steps(group: Ints, at: Ints) -> Bools:
    """Which rows are the last of their group and time."""
    return np.append((group[1:] != group[:-1]) | (at[1:] != at[:-1]), True)[: len(group)]


def _numbers(array: Any, summed: object, owner: str) -> tuple[Ints, Ints]:
    """Whether each value counts, and its integer units where it is to be summed."""
    valid = counted(array)
    if not summed:
        return valid.astype(np.int64), np.zeros(len(array), np.int64)
    values = array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
    return valid.astype(np.int64), quanta(np.where(valid, values, 0), owner)


def _prefix(groups: Ints, known: Ints, numbers: Sequence[Ints], counted: Bools) -> pa.Table:
    """Per group and known time the running totals, ordered by both: columns group, at, and one for each of `numbers`."""
    rows = _order_of(groups, known, counted, lambda _: ())
    group, at = groups[rows], known[rows]
    new_group = np.diff(group, prepend=-1) != 0
    starts = np.flatnonzero(new_group)
    ends = np.flatnonzero(_steps(group, at))
    sizes = np.diff(np.append(starts, len(rows)))
    columns: dict[str, npt.NDArray[Any]] = {"group": _narrow(group[ends]), "at": at[ends]}
    for place, number in enumerate(numbers):
        ordered = number[rows]
        if len(starts) and np.add.reduceat(np.abs(ordered.astype(np.float64)), starts).max() >= _SUM_END:
            raise DataError("the sum of a column leaves 64 bits", fix="derive a column in a larger unit")
        running = np.cumsum(ordered)
        before = np.repeat(running[starts] - ordered[starts], sizes)
        columns[f"n{place}"] = (running - before)[ends]
    return pa.table(columns)


def _asof(feature: Feature, dataset: Dataset, table: pa.Table, ties: Sequence[Ints]) -> _Made:
    """Where there is no key, each step has the values that are the latest then; else steps name rows of the values in order."""
    events = _read(table, feature, ties)
    happened, has_time = _happened(dataset, table, events)
    counted = events.counted & has_time
    tables: dict[str, pa.Table | Gathered] = {"entities": events.entities}
    key = None
    if dataset.key:
        key, tables["keys"] = encode(table, dataset.key, events.owner)
    table = table.select(list(dict.fromkeys(feature.columns)))
    columns = {}
    for name in table.column_names:
        columns[name] = column(table, name, feature.from_)
        table = table.drop_columns([name])
    rows = _ordered(events, counted, happened)
    group = _in_groups(events.entity, counted)
    at = gathered(events.known, rows)
    event = gathered(happened, rows) if dataset.event_time else at
    del events, happened
    ends = _steps(group, at)
    steps = slice(None) if ends.all() else np.flatnonzero(ends)
    prefix: dict[str, npt.NDArray[Any]] = {"group": group[steps], "at": at[steps]}
    if key is not None:
        best = latest(group, event) if dataset.event_time else np.arange(len(rows))
        key = key[rows]
        prefix |= {"best": best[steps], "other": runners_up(group, event, key, best)[steps], "key": key[best[steps]]}
    else:
        shown = latest(group, event)[steps] if dataset.event_time else steps
        rows, event = rows[shown], event[shown]
    tables["prefix"] = pa.table(prefix)
    if feature.ttl:
        tables["happened"] = pa.table({"at": event})
    values = tables["values"] = Gathered(columns, rows)
    return _Made(tables, len(prefix["at"]), value_types=tuple(column_type(each.type, feature.from_) for each in values.schema))


def _outputs(name: str, feature: Feature, made: _Made) -> list[tuple[str, ColumnType]]:
    if not feature.aggregates:
        return [(feature_name(name, value), kind) for value, kind in zip(feature.columns, made.value_types, strict=True)]
    outputs: list[tuple[str, ColumnType]] = []
    for part, kind in zip(made.aggregated, made.value_types, strict=True):
        for aggregate in part.aggregates:
            lengths = feature.half_lives if aggregate in DECAYED else feature.windows
            outputs += [(feature_name(name, part.column, aggregate, length), _output_type(aggregate, kind)) for length in lengths]
    return outputs


def _output_type(aggregate: str, kind: ColumnType) -> ColumnType:
    if aggregate in ("min", "max", "last"):
        return kind
    if aggregate in ("count", "distinct") or (aggregate == "sum" and kind != "float"):
        return "int"
    return "float"
