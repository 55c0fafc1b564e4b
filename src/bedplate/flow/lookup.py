"""From requests to the rows that a model is given: the spine's own rows, each feature as of a row's time, and functions of both.

A request names a row by its key. It may bring values of its own for the spine's columns: they take the place of the stored ones, and a
request that brings all that is needed is answered as of now though the spine has no such row.
All rows of a call are one read of the store, all features another.
Does not know: HTTP, or how the store is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from bedplate.core.clock import Clock, instant
from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import Inputs
from bedplate.data.on_demand import OnDemandView, apply
from bedplate.data.online.store import Asked, Found, OnlineStore, Value, model_value
from bedplate.data.schema import ARROW
from bedplate.serve.fields import Field
from bedplate.serve.gateway import Looked


class Lookup:
    """The lookup of one endpoint."""

    def __init__(
        self,
        store: OnlineStore,
        spec: Mapping[str, Any],
        versions: Mapping[str, str],
        clock: Clock,
        computed: Sequence[OnDemandView] = (),
    ) -> None:
        """`spec` is the endpoint step's; `versions` are the references of what is read; `computed` runs after the lookup, in order."""
        self._store = store
        self._clock = clock
        self._inputs = Inputs.model_validate(spec["inputs"])
        self._key: list[str] = spec["spine"]["key"]
        self._views: Mapping[str, Mapping[str, Any]] = spec["views"]
        self._versions = versions
        self._computed = computed
        self._types = dict(store.contents.datasets[self._inputs.spine].fields)
        self._feature_types = {name: kind for view in self._views for name, kind in store.contents.views[view].columns}
        self._feature_types |= {name: kind for each in computed for name, kind in each.names}
        entities = [name for facts in self._views.values() for name in facts["entity"]]
        asked = [name for each in computed for name in each.inputs if name not in self._feature_types]
        self._needed = [name for name in dict.fromkeys([*entities, *self._inputs.columns, *asked]) if name not in self._key]
        own = [self._inputs.spine, *(facts["dataset"] for facts in self._views.values() if facts["key"] == self._key)]
        self._keyed = tuple(dict.fromkeys(own))

    @property
    def fields(self) -> tuple[Field, ...]:
        """What a request holds: the key, and what it may bring itself."""
        required = tuple(Field(name, self._types[name]) for name in self._key)
        return required + tuple(Field(name, self._types[name], required=False) for name in self._needed if name in self._types)

    def __call__(self, requests: Sequence[Mapping[str, Any]]) -> list[Looked]:
        """Look requests up. Raises NotFound when the spine has no such row, and DataError for a field of another type."""
        keys = [{name: request[name] for name in self._key} for request in requests]
        found = self._store.rows([(dataset, key) for key in keys for dataset in self._keyed])
        width = len(self._keyed)
        rows = [self._row(request, found[place * width]) for place, request in enumerate(requests)]
        asked = []
        for place, row in enumerate(rows):
            events = {name: each.events for name, each in zip(self._keyed, found[place * width :], strict=False) if each is not None}
            asked += [self._asked(view, facts, row, events) for view, facts in self._views.items()]
        answers = self._store.read(asked)
        count = len(self._views)
        features: list[dict[str, Value]] = []
        for place in range(len(rows)):
            features.append({name: value for each in answers[place * count : (place + 1) * count] for name, value in each.items()})
        for computed in self._computed:
            self._compute(computed, rows, features)
        return [self._looked(row, found) for row, found in zip(rows, features, strict=True)]

    def empty_row(self) -> dict[str, Any]:
        """A row in which nothing is known, for the first call of a model."""
        row: dict[str, Any] = dict.fromkeys(self._inputs.columns)
        return row | dict.fromkeys(self._feature_types)

    def _row(self, request: Mapping[str, Any], found: Found | None) -> dict[str, Value]:
        brought = {name: typed(request[name], self._types[name]) for name in self._needed if request.get(name) is not None}
        if found is not None:
            return {**found.row, **brought}
        key = {name: request[name] for name in self._key}
        missing = [name for name in self._needed if name not in request]
        if missing or not self._needed:
            fix = f"ask for a row that is in {self._inputs.spine!r}, bring newer ones in: `bedplate up`"
            fix += f", or send {', '.join(missing)} too" if missing else ""
            raise NotFound(f"{self._inputs.spine!r} has no row with this key", value=json.dumps(key), fix=fix)
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        return {
            **{name: typed(value, self._types[name]) for name, value in key.items()},
            **dict.fromkeys(self._needed),
            **brought,
            "_known_at": now,
        }

    def _asked(self, view: str, facts: Mapping[str, Any], row: Mapping[str, Value], events: Mapping[str, Sequence[Any]]) -> Asked:
        at = row["_known_at"]
        assert isinstance(at, datetime)
        own = frozenset(events.get(facts["dataset"], ())) if facts["key"] == self._key else frozenset()
        return Asked(view, {name: row[name] for name in facts["entity"]}, at, own)

    def _compute(self, computed: OnDemandView, rows: Sequence[Mapping[str, Value]], features: Sequence[dict[str, Value]]) -> None:
        """Run a function once over all rows of a call, and add what it gives to their features."""
        columns = {}
        for name in computed.inputs:
            kind = self._feature_types.get(name) or self._types[name]
            values = [found[name] if name in found else row[name] for row, found in zip(rows, features, strict=True)]
            columns[name] = pa.array(values, ARROW[kind])
        made = {name: values.to_pylist() for name, values in apply(computed, columns).items()}
        for place, found in enumerate(features):
            found.update((name, values[place]) for name, values in made.items())

    def _looked(self, row: Mapping[str, Value], features: Mapping[str, Value]) -> Looked:
        at = row["_known_at"]
        assert isinstance(at, datetime)
        values = {name: model_value(row[name]) for name in self._inputs.columns}
        values |= {name: model_value(value) for name, value in features.items()}
        return Looked(values, self._versions, at.timestamp())


def typed(value: Any, kind: str) -> Value:
    """A request's value as a column of that type holds it; the gateway has checked what it is."""
    if kind != "timestamp" or not isinstance(value, str):
        return float(value) if kind == "float" and value is not None else value
    try:
        return instant(value)
    except (ValueError, OverflowError) as error:
        raise DataError("a field is no time", value=value, fix="write ISO 8601, for example 2013-01-01T10:00:00Z") from error
