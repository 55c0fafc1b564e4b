"""Records kept as rows of SQLite and read one at a time: mappings that look like the dicts of `record.Records`.

What was read or set stays in memory, in front of the rows, so a record that somebody holds is the one that the next event changes. Each
row has the CRC-32 of its text: a damaged one is never shown.
Does not know: events, or when rows are written (`projection`).
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload

from bedplate.core.errors import LedgerError

K = TypeVar("K")
V = TypeVar("V")


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Codec(Generic[V]):
    """How a value becomes JSON and comes back, and by which columns rows of it are found.

    `listed`: each key has a list of values. `pairs`: keys are tuples of text, else text.
    """

    dump: Callable[[V], Any] = _same
    load: Callable[[Any], V] = _same
    columns: Mapping[str, Callable[[V], str | int]] = field(default_factory=dict)
    listed: bool = False
    pairs: bool = False

    def text(self, key: object) -> str:
        """A key as a column has it. Raises LedgerError for one of another type."""
        if not isinstance(key, tuple if self.pairs else str):
            raise LedgerError("a record has a name of the wrong type", value=key, fix="use text, or what the codec says")
        return json.dumps(key) if self.pairs else str(key)

    def key(self, text: str) -> Any:
        """The inverse of `text`."""
        return tuple(json.loads(text)) if self.pairs else text


class Source:
    """Where rows are read: one consistent state of a projection, which may be replaced by a later one."""

    def __init__(self, connection: sqlite3.Connection, damaged: Callable[[], None]) -> None:
        """`connection` is in a transaction; `damaged` is called before LedgerError is raised for a row that cannot be right."""
        self.connection = connection
        self._damaged = damaged

    def select(self, columns: str, table: str, condition: str = "", *values: object) -> list[tuple[Any, ...]]:
        """Columns of the rows of a table. Raises LedgerError when the file is damaged."""
        statement = f"SELECT {columns} FROM {table} {condition}"  # noqa: S608 - names of this package, no text of a user
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._broken(str(error)) from error

    def insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows, in place of those that have the same number."""
        if rows:
            marks = ",".join("?" * len(rows[0]))
            self.connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608 - as above

    def value(self, body: str, crc: int) -> Any:
        """The JSON of a row. Raises LedgerError when its text is not what was written."""
        if zlib.crc32(body.encode()) != crc:
            raise self._broken("a row was changed")
        return json.loads(body)

    def _broken(self, why: str) -> LedgerError:
        self._damaged()
        fix = "run the command again: the records are made anew from the events"
        return LedgerError("the stored records are damaged, and were thrown away", value=why, fix=fix)


def create(connection: sqlite3.Connection, table: str, codec: Codec[Any]) -> None:
    """Make the table of one kind of record, with an index for each of its columns."""
    fixed = "ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL, crc INTEGER NOT NULL"
    place = "place INTEGER NOT NULL, UNIQUE (id, place)" if codec.listed else "UNIQUE (id)"
    connection.execute(f"CREATE TABLE {table} ({', '.join([fixed, *codec.columns, place])})")
    for name in codec.columns:
        connection.execute(f"CREATE INDEX {table}_{name} ON {table} ({name}, ordinal)")


class Rows(MutableMapping[K, V]):
    """One kind of record by key, in the order in which the keys came."""

    def __init__(self, source: Source, table: str, codec: Codec[V]) -> None:
        """`table` was made by `create`."""
        self._source, self._table, self._codec = source, table, codec
        self._seen: dict[K, tuple[int, V]] = {}  # with the number of the key in the order of keys
        self._next = int(source.select("coalesce(max(ordinal) + 1, 0)", table)[0][0])
        self._whole = self._next == 0

    def __getitem__(self, key: K) -> V:
        found = self._seen.get(key)
        if found is None and not self._whole:
            rows = self._source.select("ordinal, body, crc", self._table, "WHERE id = ?", self._codec.text(key))
            found = self._seen[key] = self._decoded(rows[0]) if rows else self._missing(key)
        return (found or self._missing(key))[1]

    def _missing(self, key: K) -> tuple[int, V]:
        raise KeyError(key)

    def __setitem__(self, key: K, value: V) -> None:
        present = self._place(key)
        if present is None:
            present, self._next = self._next, self._next + 1
        self._seen[key] = (present, value)

    def _place(self, key: K) -> int | None:
        if key in self._seen or self._whole:
            return self._seen[key][0] if key in self._seen else None
        rows = self._source.select("ordinal", self._table, "WHERE id = ?", self._codec.text(key))
        return int(rows[0][0]) if rows else None

    def __contains__(self, key: object) -> bool:
        if key in self._seen or self._whole:
            return key in self._seen
        return bool(self._source.select("1", self._table, "WHERE id = ?", self._codec.text(key)))

    def __delitem__(self, key: K) -> None:
        raise LedgerError("records are never taken away", value=key, fix="record an event that says so")

    def __len__(self) -> int:
        return self._next

    def __iter__(self) -> Iterator[K]:
        if self._whole:
            return iter(list(self._seen))
        stored = [self._codec.key(text) for (text,) in self._source.select("id", self._table, "ORDER BY ordinal")]
        fresh = [(ordinal, key) for key, (ordinal, _) in self._seen.items() if ordinal >= len(stored)]
        return iter([*stored, *(key for _, key in sorted(fresh, key=lambda each: each[0]))])

    def values(self) -> ValuesView[V]:
        """All values, read at once."""
        self._load()
        return super().values()

    def items(self) -> ItemsView[K, V]:
        """All keys and values, read at once."""
        self._load()
        return super().items()

    def _load(self) -> None:
        if self._whole:
            return
        self._read("")
        self._seen = dict(sorted(self._seen.items(), key=lambda item: item[1][0]))
        self._whole = True

    def _read(self, condition: str, *values: object) -> None:
        for text, *row in self._source.select("id, ordinal, body, crc", self._table, condition, *values):
            key = self._codec.key(text)
            if key not in self._seen:
                self._seen[key] = self._decoded(row)

    def where(self, column: str, wanted: str | int) -> list[V]:
        """The values whose `column` is `wanted`, in order."""
        if not self._whole:
            self._read(f"WHERE {column} = ?", wanted)
        of = self._codec.columns[column]
        return [value for _, value in sorted((each for each in self._seen.values() if of(each[1]) == wanted), key=lambda each: each[0])]

    def last(self, column: str, wanted: str | int) -> V | None:
        """The value that came last of those whose `column` is `wanted`, where values keep that column for good."""
        if not self._whole:
            self._read(f"WHERE {column} = ? ORDER BY ordinal DESC LIMIT 1", wanted)
        of = self._codec.columns[column]
        found = max((each for each in self._seen.values() if of(each[1]) == wanted), key=lambda each: each[0], default=None)
        return None if found is None else found[1]

    def _decoded(self, row: Iterable[Any]) -> tuple[int, V]:
        ordinal, body, crc = row
        return int(ordinal), self._codec.load(self._source.value(body, crc))

    def save(self) -> None:
        """Write what was read or set."""
        codec, rows = self._codec, []
        for key, (ordinal, value) in self._seen.items():
            body = json.dumps(codec.dump(value), separators=(",", ":"))
            rows.append((ordinal, self._codec.text(key), body, zlib.crc32(body.encode()), *(of(value) for of in codec.columns.values())))
        self._source.insert(self._table, rows)


class StoredList(MutableSequence[V]):
    """A list that only grows, read item by item."""

    def __init__(self, source: Source, table: str, codec: Codec[V], key: str) -> None:
        """The list of `key`, which may be empty."""
        self._source, self._table, self._codec, self._id = source, table, codec, key
        rows = source.select("coalesce(max(place) + 1, 0)", table, "WHERE id = ?", key)
        self._length = self._stored = int(rows[0][0])
        self._seen: dict[int, V] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> V: ...
    @overload
    def __getitem__(self, place: slice) -> MutableSequence[V]: ...
    def __getitem__(self, place: int | slice) -> V | MutableSequence[V]:
        if isinstance(place, slice):
            return list(self)[place]
        wanted = place + self._length if place < 0 else place
        if not 0 <= wanted < self._length:
            raise IndexError(place)
        if wanted not in self._seen:
            self._read("place = ?", wanted)
        return self._seen[wanted]

    def __iter__(self) -> Iterator[V]:
        if len(self._seen) < self._length:
            self._read("true")
        return iter([self._seen[place] for place in range(self._length)])

    def first(self, column: str, wanted: str | int) -> V | None:
        """The first value whose `column` is `wanted`."""
        if len(self._seen) < self._length:
            self._read(f"{column} = ?", wanted)
        of = self._codec.columns[column]
        return next((self._seen[place] for place in sorted(self._seen) if of(self._seen[place]) == wanted), None)

    def _read(self, condition: str, *values: object) -> None:
        for place, body, crc in self._source.select("place, body, crc", self._table, f"WHERE id = ? AND {condition}", self._id, *values):
            if place not in self._seen:
                self._seen[place] = self._codec.load(self._source.value(body, crc))

    def insert(self, place: int, value: V) -> None:
        """Only at the end."""
        if place != self._length:
            raise LedgerError("records are only added to", value=place, fix="append")
        self._seen[place] = value
        self._length += 1

    def __setitem__(self, place: int | slice, value: Any) -> None:
        raise LedgerError("records are only added to", value=place, fix="append")

    def __delitem__(self, place: int | slice) -> None:
        raise LedgerError("records are only added to", value=place, fix="append")

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Iterable) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def __repr__(self) -> str:
        return repr(list(self))

    def added(self) -> list[tuple[Any, ...]]:
        """The rows of what is not stored yet."""
        rows = []
        for place in range(self._stored, self._length):
            value = self._seen[place]
            body = json.dumps(self._codec.dump(value), separators=(",", ":"))
            columns = (of(value) for of in self._codec.columns.values())
            rows.append((None, self._id, body, zlib.crc32(body.encode()), *columns, place))
        return rows


class Lists(MutableMapping[K, MutableSequence[V]]):
    """Lists by key, in the order in which the keys came."""

    def __init__(self, source: Source, table: str, codec: Codec[V]) -> None:
        """`table` was made by `create` for a codec that is `listed`."""
        self._source, self._table, self._codec = source, table, codec
        self._seen: dict[K, StoredList[V]] = {}

    def __getitem__(self, key: K) -> MutableSequence[V]:
        return self._list(key)

    def _list(self, key: K) -> StoredList[V]:
        if key not in self._seen:
            found = StoredList(self._source, self._table, self._codec, self._codec.text(key))
            if not found:
                raise KeyError(key)
            self._seen[key] = found
        return self._seen[key]

    def first(self, key: K, column: str, wanted: str | int) -> V | None:
        """The first value of the list of `key` whose `column` is `wanted`; None when there is none, or no such list."""
        return self._list(key).first(column, wanted) if key in self else None

    def __setitem__(self, key: K, values: MutableSequence[V]) -> None:
        if key in self:
            raise LedgerError("records are only added to", value=key, fix="append")
        self._seen[key] = StoredList(self._source, self._table, self._codec, self._codec.text(key))
        self._seen[key].extend(values)

    def setdefault(self, key: K, default: MutableSequence[V] | None = None) -> MutableSequence[V]:
        """The list of `key`, made when it is not there."""
        if key not in self:
            self[key] = default or []
        return self[key]

    def __delitem__(self, key: K) -> None:
        raise LedgerError("records are never taken away", value=key, fix="record an event that says so")

    def __contains__(self, key: object) -> bool:
        return key in self._seen or bool(self._source.select("1", self._table, "WHERE id = ? LIMIT 1", self._codec.text(key)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __iter__(self) -> Iterator[K]:
        stored = [self._codec.key(key) for (key,) in self._source.select("id", self._table, "WHERE place = 0 ORDER BY ordinal")]
        return iter(dict.fromkeys([*stored, *self._seen]))

    def save(self) -> None:
        """Write what was added."""
        rows = [row for values in self._seen.values() for row in values.added()]
        self._source.insert(self._table, rows)
