"""The online store: rows of datasets by key, and features as of any time, the very numbers that the point-in-time join gives.

Whatever is asked at once is one read: all rows by key in one, all features in another. Each entity of a view is one packed row, a long
window with many events a few tiles more (`rows`). The store may be updated while it is read (`apply`); a read sees one moment.
Does not know: models, requests or HTTP; which row is asked for, and as of when, the caller says.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from bedplate.core.errors import NotFound, nearest
from bedplate.data.online.answer import Value, answer, needed
from bedplate.data.online.apply import Applied, apply, expire
from bedplate.data.online.contents import Contents, Identity, decode_row, values_of
from bedplate.data.online.definition import ViewDefinition
from bedplate.data.online.keys import Keys, key_text, microseconds_of
from bedplate.data.online.protocol import OnlineEngine

__all__ = ["Asked", "Found", "Identity", "OnlineStore", "Value", "model_value"]


@dataclass(frozen=True)
class Found:
    """The latest known row with a key, and all events that have this key."""

    row: Mapping[str, Value]
    events: Sequence[Identity]


@dataclass(frozen=True)
class Asked:
    """A view's features for one entity as of a time (naive: UTC), without the events in `own`."""

    view: str
    entity: Mapping[str, Any]
    at: datetime
    own: Collection[Identity] = ()


def model_value(value: Value) -> float | str | None:
    """A value as a training set holds it: numbers, bools and times (seconds since the epoch) as float, strings as they are."""
    if value is None or isinstance(value, str):
        return value
    return microseconds_of(value) / 1e6 if isinstance(value, datetime) else float(value)


class OnlineStore:
    """One store in a database, for any number of threads."""

    def __init__(self, engine: OnlineEngine, namespace: str = "") -> None:
        """Read what is in the store of that name. Raises NotFound when there is none."""
        self._engine = engine
        self._keys = Keys(namespace)
        meta = engine.get([self._keys.meta])[0]
        if meta is None:
            raise NotFound("there is no online store of that name", value=namespace, fix="run the endpoint's features step")
        self.contents = Contents.decode(meta)
        self._views = self.contents.views
        self._datasets = {name: kept for name, kept in self.contents.datasets.items() if kept.key}

    def close(self) -> None:
        """Close the engine. The store cannot be used after."""
        self._engine.close()

    def rows(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Found | None]:
        """For each (dataset, key) the latest known row and the identities of its events, or None, in one read.

        Times of a key may be ISO 8601 text. Raises NotFound for an unknown dataset, DataError for a key field that is unknown, missing or
        of another type.
        """
        places: list[int | None] = []
        wanted: list[bytes] = []
        for dataset, key in asked:
            if dataset not in self._datasets:
                raise NotFound("the online store has no such dataset", value=dataset, fix=nearest(dataset, self._datasets))
            text = key_text(self._datasets[dataset].key, key, dataset)
            places.append(None if text is None else len(wanted))
            if text is not None:
                wanted.append(self._keys.row(dataset, text))
        bodies = self._engine.get(wanted)
        found: list[Found | None] = []
        for (dataset, _), place in zip(asked, places, strict=True):
            body = None if place is None else bodies[place]
            found.append(None if body is None else self._found(dataset, body))
        return found

    def read(self, asked: Sequence[Asked]) -> list[dict[str, Value]]:
        """The output columns of each view that is asked for, in one read.

        Raises NotFound for an unknown view, DataError for a field of an entity that is unknown, missing or of another type, or a time of
        which the store has forgotten what was known.
        """
        wanted: list[bytes] = []
        plans: list[_Plan] = []
        keys = self._keys
        for each in asked:
            view = self._view(each.view)
            entity = key_text(view.entity, each.entity, view.name)
            at_us = microseconds_of(each.at)
            numbers = needed(view, at_us, each.own) if entity is not None else []
            plans.append(_Plan(view, entity is not None, at_us, each.own, len(wanted), numbers))
            if entity is not None:
                wanted.append(keys.head(view.name, entity))
                wanted += [keys.tile(view.name, entity, number) for number in numbers]
        bodies = self._engine.get(wanted)
        return [plan.answered(bodies) for plan in plans]

    def row(self, dataset: str, key: Mapping[str, Any]) -> dict[str, Value] | None:
        """The latest known row of a dataset with this key, or None: its columns and `_known_at`, times as datetimes in UTC.

        Raises as `rows` does.
        """
        found = self.rows([(dataset, key)])[0]
        return None if found is None else dict(found.row)

    def features(self, view: str, entity: Mapping[str, Any], at: datetime, own_key: Mapping[str, Any] | None = None) -> dict[str, Value]:
        """The output columns of a view for one entity as of `at` (naive: UTC). `own_key` is the key of the row that is asked for: where
        the view's dataset has the same key columns, events with this key are not seen.

        Raises as `rows` and `read` do.
        """
        definition = self._view(view)
        own: frozenset[Identity] = frozenset()
        if own_key is not None and definition.key and set(own_key) == set(definition.key):
            found = self.rows([(definition.dataset, own_key)])[0]
            own = frozenset(found.events) if found is not None else own
        return self.read([Asked(view, entity, at, own)])[0]

    def apply(self, dataset: str, table: pa.Table, now_us: int) -> int:
        """Apply the rows of a cut that are not applied yet, exactly once; returns how many there were. See `apply.apply`."""
        if dataset not in self.contents.datasets:
            raise NotFound("the online store has no such dataset", value=dataset, fix=nearest(dataset, self.contents.datasets))
        return apply(self._engine, self._keys, self.contents, dataset, table, now_us)

    def applied(self) -> dict[str, Applied]:
        """How far each dataset is applied."""
        names = list(self.contents.datasets)
        guards = self._engine.get([self._keys.guard(name) for name in names])
        return {name: Applied.decode(guard) for name, guard in zip(names, guards, strict=True)}

    def expire(self, now_us: int) -> int:
        """Drop the entities whose time to live is over; returns how many."""
        return expire(self._engine, self._keys, self.contents, now_us)

    def _found(self, dataset: str, body: bytes) -> Found:
        identities, text = decode_row(body)
        return Found(values_of(self._datasets[dataset].fields, text), identities)

    def _view(self, name: str) -> ViewDefinition:
        view = self._views.get(name)
        if view is None:
            raise NotFound("the online store has no such feature", value=name, fix=nearest(name, self._views))
        return view


@dataclass(frozen=True)
class _Plan:
    """What is read for one question: the head at `first`, then the tiles `numbers`."""

    view: ViewDefinition
    has_entity: bool
    at_us: int
    own: Collection[Identity]
    first: int
    numbers: Sequence[int]

    def answered(self, bodies: Sequence[bytes | None]) -> dict[str, Value]:
        if not self.has_entity:
            return dict.fromkeys(name for name, _ in self.view.columns)
        tiles = {}
        for place, number in enumerate(self.numbers, self.first + 1):
            body = bodies[place]
            if body is not None:
                tiles[number] = body
        values = answer(self.view, bodies[self.first], tiles, self.at_us, self.own)
        return dict(zip(self.view.names, values, strict=True))
