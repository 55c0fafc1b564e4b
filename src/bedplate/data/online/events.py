"""Rows of a dataset as the events of a view: one block, ordered by entity and then as in a tile.

Does not know: stores, or which events were applied before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bedplate.core.spec import Dataset
from bedplate.data.features import quanta
from bedplate.data.keys import KNOWN_AT, OFFSET, PARTITION, Bools, Ints, column, encode, microseconds, texts, validity
from bedplate.data.online.block import Block
from bedplate.data.online.definition import NEVER_US, ViewDefinition
from bedplate.data.online.sketch import hashes


@dataclass(frozen=True)
class Events:
    """The events of a view: `entities` are canonical texts, those of entity i lie in columns starts[i] to starts[i + 1] of `block`."""

    entities: Sequence[str]
    starts: Sequence[int]
    block: Block

    def of(self, place: int) -> Block:
        """The events of one entity."""
        return self.block.take(slice(self.starts[place], self.starts[place + 1]))


def events_of(view: ViewDefinition, dataset: Dataset, table: pa.Table) -> Events:
    """The rows of a cut that feed the view: those with an entity and a known time, for an as-of view also with an event time.

    Raises DataError for a column that is missing or cannot be what it should be.
    """
    owner = view.dataset
    known, is_known = microseconds(column(table, KNOWN_AT, owner), f"{owner}.{KNOWN_AT}")
    codes, distinct = encode(table, [name for name, _ in view.entity], owner)
    counted = (codes >= 0) & is_known
    event = known
    if dataset.event_time:
        event, has_event = microseconds(column(table, dataset.event_time, owner), f"{owner}.{dataset.event_time}")
        event = np.where(has_event, event, NEVER_US)
        if view.kind == "asof":
            counted &= has_event
    partition, offset = (table.column(name).to_numpy().astype(np.int64) for name in (PARTITION, OFFSET))
    rows = np.flatnonzero(counted)
    rows = rows[np.lexsort((offset[rows], partition[rows], event[rows], known[rows], codes[rows]))]
    block = _block(view, table, rows, [known, event, partition, offset])
    group = codes[rows]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    entities: Any = texts(distinct.take(pa.array(group[starts], pa.int64())))
    return Events(entities.to_pylist(), [*starts.tolist(), len(rows)], block)


def _block(view: ViewDefinition, table: pa.Table, rows: Ints, identity: Sequence[Ints]) -> Block:
    columns = [part[rows] for part in identity]
    marks: list[Bools] = []
    found: dict[str, int] = {}
    for place, (name, kind) in enumerate(view.values):
        array: Any = column(table, name, view.dataset).take(pa.array(rows, pa.int64()))
        valid = validity(array)
        if kind == "float":
            numbers = array.fill_null(0.0).to_numpy(zero_copy_only=False)
            valid &= ~np.isnan(numbers)
        marks.append(valid)
        roles = ("value",) if view.kind == "asof" else tuple(view.parts[place].rows)
        for role in roles:
            columns.append(_numbers(role, kind, array, valid, found, f"{view.dataset}.{name}"))
    matrix = np.stack([each.astype(np.int64, copy=False) for each in columns])
    shape = (len(view.values), len(rows))
    return Block(matrix, np.array(marks, np.uint8).reshape(shape), tuple(found))


def _numbers(role: str, kind: str, array: Any, valid: Bools, found: dict[str, int], owner: str) -> Ints:
    """One row of the matrix. `found` collects the texts."""
    if role == "hash":
        return _hashes(array, valid)
    if kind == "string":
        encoded = array.dictionary_encode()
        places = np.array([found.setdefault(text, len(found)) for text in encoded.dictionary.to_pylist()] or [0], np.int64)
        return np.where(valid, places[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)], -1)
    if kind == "timestamp":
        return microseconds(array, owner)[0]
    plain = array.fill_null(False if kind == "bool" else 0).to_numpy(zero_copy_only=False)
    plain = np.where(valid, plain, np.zeros(1, plain.dtype))
    if role == "quanta":
        return quanta(plain, owner)
    return plain.view(np.int64) if kind == "float" else plain.astype(np.int64)


def _hashes(array: Any, valid: Bools) -> Ints:
    encoded = array.dictionary_encode()
    values = texts(pa.table({"value": encoded.dictionary})).to_pylist()
    made = hashes([str(value).encode() for value in values]).view(np.int64) if values else np.zeros(1, np.int64)
    return np.where(valid, made[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)], 0)
