"""What a store holds: its views and datasets, as they are written into its meta row, and rows of datasets by key as bytes.

Does not know: databases, or how a view's events are packed (`rows`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from bedplate.core.clock import duration_s
from bedplate.core.digest import canonical
from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType, Dataset, Feature
from bedplate.data.features import feature_name
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, column, column_type, microseconds
from bedplate.data.online.definition import DECAYED, Fields, Lengths, ViewDefinition, tile_us
from bedplate.data.online.keys import EPOCH

FORMAT = 2
_COUNT = struct.Struct("<I")
_IDENTITY = struct.Struct("<3q")
Identity = tuple[int, int, int]  # known-at, partition, offset


@dataclass(frozen=True)
class KeptDataset:
    """A dataset as the store keeps it: by `key` where there is one, the columns `fields`; `declared` is as in the project."""

    name: str
    key: Fields
    fields: Fields
    declared: Mapping[str, Any]

    @property
    def dataset(self) -> Dataset:
        """The declaration."""
        return Dataset.model_validate(self.declared)


@dataclass(frozen=True)
class Contents:
    """What is in a store. `source` says which streams the datasets were read from (their identities), as the builder named them."""

    views: Mapping[str, ViewDefinition]
    datasets: Mapping[str, KeptDataset]

    def encode(self) -> bytes:
        """The meta row."""
        datasets = [[kept.name, kept.key, kept.fields, kept.declared] for kept in self.datasets.values()]
        return canonical({"format": FORMAT, "views": [view.to_json() for view in self.views.values()], "datasets": datasets})

    @staticmethod
    def decode(body: bytes) -> Contents:
        """The meta row, read. Raises DataError for another format."""
        values = json.loads(body)
        if values["format"] != FORMAT:
            raise DataError("the online store has another format", value=values["format"], fix="run the endpoint's features step again")
        views = [ViewDefinition.of(each) for each in values["views"]]
        datasets = [KeptDataset(name, _pairs(key), _pairs(fields), declared) for name, key, fields, declared in values["datasets"]]
        return Contents({view.name: view for view in views}, {kept.name: kept for kept in datasets})

    def views_of(self, dataset: str) -> list[ViewDefinition]:
        """The views over a dataset."""
        return [view for view in self.views.values() if view.dataset == dataset]


def described(features: Mapping[str, Feature], tables: Mapping[str, tuple[Dataset, pa.Table]]) -> Contents:
    """The contents of a store of `features`, and of those of `tables` that have a key.

    Raises DataError for a feature whose dataset is not among `tables`, or a column that is not there or of no use for it.
    """
    views = {}
    for name, feature in features.items():
        if feature.from_ not in tables:
            raise DataError(f"the rows of feature {name}'s dataset are missing", value=feature.from_, fix="give its cut")
        views[name] = _view(name, feature, *tables[feature.from_])
    return Contents(views, {name: _kept(name, *pair) for name, pair in tables.items()})


def kept_columns(table: pa.Table) -> list[str]:
    """The columns of a row that is kept by key."""
    return [name for name in table.column_names if name not in (PARTITION, OFFSET)]


def encode_row(identities: Sequence[Identity], body: str) -> bytes:
    """The row of a key: all events with the key, and the JSON text of the latest known of them."""
    return _COUNT.pack(len(identities)) + b"".join(_IDENTITY.pack(*each) for each in identities) + body.encode()


def decode_row(row: bytes) -> tuple[list[Identity], str]:
    """What `encode_row` wrote."""
    (count,) = _COUNT.unpack_from(row)
    end = _COUNT.size + count * _IDENTITY.size
    identities: list[Any] = list(_IDENTITY.iter_unpack(row[_COUNT.size : end]))
    return identities, row[end:].decode()


def values_of(fields: Fields, body: str) -> dict[str, Any]:
    """The columns of a kept row, times as datetimes in UTC."""
    pairs = zip(fields, json.loads(body), strict=True)
    return {name: _instant(value) if kind == "timestamp" else value for (name, kind), value in pairs}


def _instant(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def _view(name: str, feature: Feature, dataset: Dataset, table: pa.Table) -> ViewDefinition:
    owner = feature.from_
    known, is_known = microseconds(column(table, KNOWN_AT, owner), f"{owner}.{KNOWN_AT}")
    span_us = int(np.ptp(known[is_known])) if is_known.any() else 0
    windows, half_lives = _lengths(feature.windows), _lengths(feature.half_lives)
    names = tuple(feature.aggregates) or feature.columns
    for each in feature.entity:
        if column_type(column(table, each, owner).type, owner) == "float":
            raise DataError("a float can be no part of a key or entity", value=f"{owner}.{each}", fix="declare it as int or string")
    values = tuple((each, column_type(column(table, each, owner).type, owner)) for each in names)
    for each, kind in values:
        asked = set(feature.aggregates.get(each, ()))
        if kind in ("string", "timestamp") and asked & {"sum", "mean", *DECAYED}:
            raise DataError(f"{owner}.{each} is no number to aggregate", value=kind, fix="derive a number from it")
    return ViewDefinition(
        name=name,
        kind="windowed" if feature.aggregates else "asof",
        dataset=owner,
        entity=_fields(table, feature.entity, owner),
        key=dataset.key,
        values=values,
        aggregates=tuple(tuple(asked) for asked in feature.aggregates.values()),
        columns=_outputs(name, feature, values),
        windows=windows,
        half_lives=half_lives,
        ttl_us=round(duration_s(feature.ttl) * 1e6) if feature.ttl else None,
        tile_us=tile_us(max((length for _, length in windows), default=0), span_us),
    )


def _outputs(name: str, feature: Feature, values: Fields) -> Fields:
    if not feature.aggregates:
        return tuple((feature_name(name, each), kind) for each, kind in values)
    made: list[tuple[str, ColumnType]] = []
    for each, kind in values:
        for aggregate in feature.aggregates[each]:
            lengths = feature.half_lives if aggregate in DECAYED else feature.windows
            made += [(feature_name(name, each, aggregate, length), _output_type(aggregate, kind)) for length in lengths]
    return tuple(made)


def _output_type(aggregate: str, kind: ColumnType) -> ColumnType:
    if aggregate in ("count", "distinct"):
        return "int"
    if aggregate in ("min", "max", "last"):
        return kind
    return "int" if aggregate == "sum" and kind != "float" else "float"


def _lengths(texts: Sequence[str]) -> Lengths:
    return tuple((each, round(duration_s(each) * 1e6)) for each in texts)


def _kept(name: str, dataset: Dataset, table: pa.Table) -> KeptDataset:
    return KeptDataset(name, _fields(table, dataset.key, name), _fields(table, kept_columns(table), name), dataset.model_dump(mode="json"))


def _fields(table: pa.Table, names: Sequence[str], owner: str) -> Fields:
    return tuple((each, column_type(column(table, each, owner).type, f"{owner}.{each}")) for each in names)


def _pairs(values: Sequence[Sequence[Any]]) -> Fields:
    return tuple((name, kind) for name, kind in values)
