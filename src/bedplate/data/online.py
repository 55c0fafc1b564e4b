"""The embedded online store: one SQLite file that answers, for any time, with the very numbers that the point-in-time join gives.

A windowed view is kept as tiles: the running totals of one entity in order of known time, cut into pieces of TILE_ROWS, so that any window
at any time is the difference of two of them and costs a few index seeks. An as-of view is one row per step. Datasets with a key are kept
by their key: the row to answer for, and the events that a row must not see of itself. Keys and entities are canonical JSON text.
The file is written beside and renamed, and never changes: readers take no locks.
Does not know: models, requests or HTTP; which row is asked for, and as of when, the caller says.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import blake3
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bedplate.core.atomic import sync
from bedplate.core.clock import instant
from bedplate.core.digest import canonical, digest
from bedplate.core.errors import DataError, NotFound, nearest
from bedplate.core.spec import ColumnType, Dataset
from bedplate.data.features import View, cut_of, feature_name, finish, quanta
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Ints, column, column_type, encode, microseconds, text, texts

TILE_ROWS = 256
_FORMAT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = """
CREATE TABLE meta (body TEXT NOT NULL);
CREATE TABLE rows (dataset TEXT, key TEXT, number INTEGER, row TEXT NOT NULL, PRIMARY KEY (dataset, key, number)) WITHOUT ROWID;
CREATE TABLE tiles (view TEXT, entity TEXT, first INTEGER, body BLOB NOT NULL, PRIMARY KEY (view, entity, first));
CREATE TABLE steps (view TEXT, entity TEXT, at INTEGER, best TEXT NOT NULL, key TEXT, other TEXT, PRIMARY KEY (view, entity, at))
  WITHOUT ROWID;
"""
_TILE = "SELECT body FROM tiles WHERE view = ? AND entity = ? AND first <= ? ORDER BY first DESC LIMIT 1"
_STEP = "SELECT best, key, other FROM steps WHERE view = ? AND entity = ? AND at <= ? ORDER BY at DESC LIMIT 1"
_LATEST = "SELECT row FROM rows WHERE dataset = ? AND key = ? ORDER BY number DESC LIMIT 1"
_ALL = "SELECT row FROM rows WHERE dataset = ? AND key = ?"

Fields = tuple[tuple[str, ColumnType], ...]
Value = str | int | float | bool | datetime | None


def build(path: Path, views: Sequence[View], tables: Mapping[str, tuple[Dataset, pa.Table]], progress: Callable[[int, int], None]) -> str:
    """Write the store of `views`, and of those of `tables` that have a key, to `path`. Returns the digest of its content.

    Raises DataError when the dataset of a view has a key but is not among `tables`, or is there with another cut than the view was made of.
    """
    keyed = {name: pair for name, pair in tables.items() if pair[0].key}
    for view in views:
        if view.key and (view.dataset not in keyed or cut_of(keyed[view.dataset][1]) != view.cut):
            fix = "give the cut that the view was made of: without it a row could see itself"
            raise DataError(f"the rows of feature {view.name}'s dataset are missing or of another cut", value=view.dataset, fix=fix)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    try:
        meta = _fill(beside, views, keyed, progress)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return digest(meta)


def _fill(beside: Path, views: Sequence[View], keyed: Mapping[str, tuple[Dataset, pa.Table]], progress: Callable[[int, int], None]) -> Any:
    """Write the file and return what its digest covers."""
    total = len(keyed) + len(views)
    digests: dict[str, str] = {}
    connection = sqlite3.connect(beside)
    try:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _SCHEMA)
        for done, (name, (dataset, table)) in enumerate(sorted(keyed.items())):
            progress(done, total)
            digests[name] = _add_rows(connection, name, dataset, table)
        for done, view in enumerate(views, len(keyed)):
            progress(done, total)
            (_add_tiles if view.kind == "windowed" else _add_steps)(connection, view)
            digests[view.name] = view.digest
        meta = {"format": _FORMAT, "views": [_described(view) for view in views], "datasets": [_fields(*item) for item in keyed.items()]}
        connection.execute("INSERT INTO meta VALUES (?)", (canonical(meta).decode(),))
        connection.commit()
    finally:
        connection.close()
    progress(total, total)
    return [meta, digests]


def model_value(value: Value) -> float | str | None:
    """A value as a training set holds it: numbers, bools and times (seconds since the epoch) as float, strings as they are."""
    if value is None or isinstance(value, str):
        return value
    return _microseconds(value) / 1e6 if isinstance(value, datetime) else float(value)


class OnlineStore:
    """A store opened for reading, by any number of threads: each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        """Open the file that `build` wrote. Raises NotFound when there is none, DataError when it is no online store."""
        if not path.is_file():
            raise NotFound("there is no online store", value=str(path), fix="run the endpoint's features step")
        self._uri = path.resolve().as_uri() + "?mode=ro&immutable=1"
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            meta = json.loads(self._one("SELECT body FROM meta")[0])
        except sqlite3.DatabaseError as error:
            self.close()
            raise DataError("this is no online store, or it is damaged", value=str(path), fix="run the endpoint's features step") from error
        self._views = {values["name"]: _OnlineView.of(values) for values in meta["views"]}
        self._datasets = {name: (_typed(key), _typed(fields)) for name, key, fields in meta["datasets"]}

    def close(self) -> None:
        """Close the connections of all threads. The store cannot be used after."""
        with self._lock:
            for connection in self._opened:
                connection.close()

    def row(self, dataset: str, key: Mapping[str, Any]) -> dict[str, Value] | None:
        """The latest known row of a dataset with this key, or None: its columns and `_known_at`, times as datetimes in UTC.

        Times of the key may be ISO 8601 text. Raises NotFound for an unknown dataset, DataError for a key field that is unknown, missing
        or of another type.
        """
        if dataset not in self._datasets:
            raise NotFound("the online store has no such dataset", value=dataset, fix=nearest(dataset, self._datasets))
        names, fields = self._datasets[dataset]
        asked = _key_text(names, key, dataset)
        found = self._one(_LATEST, dataset, asked) if asked else None
        return None if found is None else _decoded(fields, json.loads(found[0]))

    def features(self, view: str, entity: Mapping[str, Any], at: datetime, own_key: Mapping[str, Any] | None = None) -> dict[str, Value]:
        """The output columns of a view for one entity as of `at` (naive: UTC). `own_key` is the key of the row that is asked for: where
        the view's dataset has the same key columns, events with this key are not seen.

        Raises NotFound for an unknown view, DataError for a field of the entity or key that is unknown, missing or of another type.
        """
        if view not in self._views:
            raise NotFound("the online store has no such feature", value=view, fix=nearest(view, self._views))
        found = self._views[view]
        asked = _key_text(found.entity, entity, view)
        if asked is None:
            return dict.fromkeys(name for name, _ in found.columns)
        own = None
        if own_key is not None and found.key and set(own_key) == {name for name, _ in found.key}:
            own = _key_text(found.key, own_key, view)
        at_us = _microseconds(at)
        return self._windowed(found, asked, at_us, own) if found.windows else self._asof(found, asked, at_us, own)

    def _windowed(self, view: _OnlineView, entity: str, at_us: int, own: str | None) -> dict[str, Value]:
        windows_us = np.array([length for _, length in view.windows], np.int64)
        tile = self._tile(view, entity, at_us)
        end = _totals(tile, at_us, view.width)
        sums = np.empty((len(windows_us), view.width), np.int64)
        for place, start_us in enumerate((at_us - windows_us).tolist()):
            if tile is None or start_us < tile[0, 0]:
                sums[place] = end - _totals(self._tile(view, entity, start_us), start_us, view.width)
            else:
                sums[place] = end - _totals(tile, start_us, view.width)
        if own is not None:
            self._subtract_own(view, entity, own, at_us, windows_us, sums)
        result: dict[str, Value] = {}
        for place, (name, aggregates, scale) in enumerate(view.aggregated):
            counts, totals = sums[:, 2 * place], sums[:, 2 * place + 1]
            for aggregate in aggregates:
                values = finish(aggregate, counts, totals, scale).tolist()
                for (window, _), value in zip(view.windows, values, strict=True):
                    result[feature_name(view.name, name, aggregate, window)] = value if value == value else None
        return result

    def _subtract_own(self, view: _OnlineView, entity: str, own: str, at_us: int, windows_us: Ints, sums: Ints) -> None:
        fields = [name for name, _ in self._datasets[view.dataset][1]]
        for (body,) in self._connection().execute(_ALL, (view.dataset, own)):
            row = dict(zip(fields, json.loads(body), strict=True))
            known = row[KNOWN_AT]
            if known is None or known > at_us or text([row[name] for name, _ in view.entity]) != entity:
                continue
            numbers: list[int] = []
            for name, _, scale in view.aggregated:
                value = row[name]
                amount = 0 if value is None else int(quanta(np.array([value], np.int64 if scale == 1 else np.float64), name)[0])
                numbers += [int(value is not None), amount]
            sums[at_us - windows_us < known] -= np.array(numbers, np.int64)

    def _asof(self, view: _OnlineView, entity: str, at_us: int, own: str | None) -> dict[str, Value]:
        names = tuple(name for name, _ in view.columns)
        found = self._one(_STEP, view.name, entity, at_us)
        body = None
        if found is not None:
            best, key, other = found
            body = other if own is not None and key == own else best
        return dict.fromkeys(names) if body is None else _decoded(view.columns, json.loads(body))

    def _tile(self, view: _OnlineView, entity: str, at_us: int) -> Ints | None:
        found = self._one(_TILE, view.name, entity, at_us)
        return None if found is None else np.frombuffer(found[0], "<i8").reshape(view.width + 1, -1)

    def _one(self, query: str, *values: Any) -> Any:
        return self._connection().execute(query, values).fetchone()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection


@dataclass(frozen=True)
class _OnlineView:
    name: str
    dataset: str
    entity: Fields
    key: Fields
    columns: Fields
    windows: tuple[tuple[str, int], ...]
    aggregated: tuple[tuple[str, tuple[str, ...], int], ...]

    @property
    def width(self) -> int:
        """How many running totals a tile has: a count and a sum of each aggregated column."""
        return 2 * len(self.aggregated)

    @staticmethod
    def of(values: Mapping[str, Any]) -> _OnlineView:
        aggregated = tuple((name, tuple(aggregates), scale) for name, aggregates, scale in values["aggregated"])
        windows = tuple((name, length_us) for name, length_us in values["windows"])
        entity, key, columns = (_typed(values[part]) for part in ("entity", "key", "columns"))
        return _OnlineView(values["name"], values["dataset"], entity, key, columns, windows, aggregated)


def _described(view: View) -> dict[str, Any]:
    return {
        "name": view.name,
        "dataset": view.dataset,
        "entity": _schema_fields(view.load("entities").schema),
        "key": _schema_fields(view.load("keys").schema) if view.key else [],
        "columns": [list(pair) for pair in view.columns],
        "windows": [[window.text, window.length_us] for window in view.windows],
        "aggregated": [[part.column, list(part.aggregates), part.scale] for part in view.aggregated],
    }


def _schema_fields(schema: pa.Schema) -> list[list[str]]:
    return [[field.name, column_type(field.type, field.name)] for field in schema]


def _kept(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in (PARTITION, OFFSET)]


def _fields(name: str, keyed: tuple[Dataset, pa.Table]) -> list[Any]:
    dataset, table = keyed
    return [name, _schema_fields(table.select(list(dataset.key)).schema), _schema_fields(table.select(_kept(table)).schema)]


def _typed(pairs: Sequence[Sequence[Any]]) -> Fields:
    return tuple((name, kind) for name, kind in pairs)


def _add_rows(connection: sqlite3.Connection, name: str, dataset: Dataset, table: pa.Table) -> str:
    """Add the rows of a dataset by key, numbered in the order in which they were known. Returns the digest of what was added."""
    codes, distinct = encode(table, dataset.key, name)
    known, is_known = microseconds(column(table, KNOWN_AT, name), f"{name}.{KNOWN_AT}")
    known = np.where(is_known, known, np.iinfo(np.int64).min)
    partition, offset = (table.column(place).to_numpy() for place in (PARTITION, OFFSET))
    keys = np.array(texts(distinct).to_pylist(), object)
    by_text = np.argsort(keys, kind="stable")
    rank = np.empty(len(keys), np.int64)
    rank[by_text] = np.arange(len(keys))
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.lexsort((offset[rows], partition[rows], known[rows], rank[codes[rows]]))]
    starts = np.flatnonzero(np.diff(codes[rows], prepend=-1))
    numbers = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    kept = pa.table({field: column(table, field, name) for field in _kept(table)})
    hasher = blake3.blake3()
    for first in range(0, len(rows), 100_000):
        part = rows[first : first + 100_000]
        bodies = texts(kept.take(part)).to_pylist()
        names = keys[codes[part]].tolist()
        hasher.update(canonical([names, bodies]))
        values = zip([name] * len(part), names, numbers[first : first + len(part)].tolist(), bodies, strict=True)
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", values)
    return str(hasher.hexdigest())


def _add_tiles(connection: sqlite3.Connection, view: View) -> None:
    entities = texts(view.load("entities")).to_pylist()
    prefix = view.load("prefix")
    group = prefix.column("group").to_numpy()
    matrix = np.stack([prefix.column(name).to_numpy() for name in prefix.column_names[1:]]).astype("<i8")
    connection.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", _tiles(view.name, entities, group, matrix))


def _tiles(view: str, entities: Sequence[Any], group: Ints, matrix: npt.NDArray[Any]) -> Iterator[tuple[str, str, int, bytes]]:
    starts = np.flatnonzero(np.diff(group, prepend=-1)).tolist()
    ends = [*starts[1:], len(group)] if starts else []
    for start, end in zip(starts, ends, strict=True):
        for first in range(start, end, TILE_ROWS):
            tile = matrix[:, first : min(first + TILE_ROWS, end)]
            yield view, entities[int(group[start])], int(tile[0, 0]), tile.tobytes()


def _add_steps(connection: sqlite3.Connection, view: View) -> None:
    prefix = view.load("prefix")
    bodies, entities = texts(view.load("values")), texts(view.load("entities"))
    group, at, best, other, key = (prefix.column(name).to_numpy() for name in ("group", "at", "best", "other", "key"))
    keys = _taken(texts(view.load("keys")), key) if view.key else [None] * len(key)
    parts = (_taken(entities, group), at.tolist(), _taken(bodies, best), keys, _taken(bodies, other))
    connection.executemany("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", zip([view.name] * len(at), *parts, strict=True))


def _taken(array: pa.Array[Any], places: Ints) -> list[Any]:
    rows: Any = pa.array(places, mask=places < 0)
    return array.take(rows).to_pylist()


def _totals(tile: Ints | None, at_us: int, width: int) -> Ints:
    """The running totals at the last row at or before a time: zeros before the first."""
    row = -1 if tile is None else int(np.searchsorted(tile[0], at_us, "right")) - 1
    return np.zeros(width, np.int64) if tile is None or row < 0 else tile[1:, row]


def _key_text(fields: Fields, given: Mapping[str, Any], owner: str) -> str | None:
    """The canonical text of a key or entity, None when a field is null."""
    names = [name for name, _ in fields]
    for name in given:
        if name not in names:
            raise DataError(f"{owner} has no such key field", value=name, fix=nearest(name, names))
    missing = [name for name in names if name not in given]
    if missing:
        raise DataError(f"a key field of {owner} is missing", value=missing[0], fix=f"give all of {', '.join(names)}")
    values = [_coerced(given[name], kind, f"{owner}.{name}") for name, kind in fields]
    return None if None in values else text(values)


def _coerced(value: Any, kind: ColumnType, field: str) -> str | int | bool | None:
    """A request's value as keys hold it: a time, also as ISO 8601 text, as microseconds since the epoch."""
    if value is None or (kind == "bool" and isinstance(value, bool)) or (kind == "string" and _is_text(value)):
        return cast("str | bool | None", value)
    if kind == "int" and isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    if kind == "timestamp" and isinstance(value, datetime):
        return _microseconds(value)
    if kind == "timestamp" and isinstance(value, str):
        try:
            return _microseconds(instant(value))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{field} is no time", value=value, fix="write ISO 8601, for example 2013-01-01T10:00:00Z") from error
    raise DataError(f"{field} has the wrong type", value=value, fix=f"give {kind}")


def _is_text(value: Any) -> bool:
    """Whether a value is a string that has a UTF-8 form: JSON can write half of a surrogate pair, which has none."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _decoded(fields: Fields, values: Sequence[Any]) -> dict[str, Value]:
    return {name: _value(value, kind) for (name, kind), value in zip(fields, values, strict=True)}


def _value(value: Any, kind: ColumnType) -> Value:
    return _EPOCH + timedelta(microseconds=value) if kind == "timestamp" and value is not None else value


def _microseconds(moment: datetime) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // timedelta(microseconds=1)
