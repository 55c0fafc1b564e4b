"""What the online store knows of a feature view: its columns, and where each number stands in the matrices of its tiles and summaries.

A tile holds the events of one entity whose known-at lies in [n * tile_us, (n + 1) * tile_us), one column each, ordered by (known-at, event
time, partition, offset). The rows of its matrix: those four, then what the aggregates need of each column, or the values of an as-of view.
A summary has one column a tile. An event without an event time has the least one.
Does not know: bytes (`block`), stores, or how values are finished (`data.aggregates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from bedplate.core.spec import ColumnType
from bedplate.data.keys import Ints

KNOWN, EVENT, PARTITION_AT, OFFSET_AT, FIRST_VALUE = range(5)
NUMBER, LAST_KNOWN, FIRST_STATE = range(3)
NEVER_US = -(2**63)
TILES = 64  # in the longest window
SPAN_TILES = 256  # in all the time that a store begins with
DECAYED = ("decayed_sum", "decayed_count", "decayed_mean")

Fields = tuple[tuple[str, ColumnType], ...]
Lengths = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Part:
    """An aggregated column. `rows` says where a tile has its value, its quanta and its hash, `states` where a summary has its count, total,
    min, max and last; -1 or absent: not there. `sketch` is its place among the sketched columns, `total` among the summed ones.
    """

    column: str
    kind: ColumnType
    aggregates: tuple[str, ...]
    mark: int
    rows: Mapping[str, int]
    states: Mapping[str, int]
    sketch: int
    total: int


@dataclass(frozen=True)
class ViewDefinition:
    """A view as the store keeps it.

    `values` are the stored columns with their types: those that are aggregated, or those of an as-of view. `aggregates` names for each of
    them what is asked (empty for an as-of view). `columns` are the outputs. Lengths are in microseconds.
    """

    name: str
    kind: Literal["windowed", "asof"]
    dataset: str
    entity: Fields
    key: tuple[str, ...]
    values: Fields
    aggregates: tuple[tuple[str, ...], ...]
    columns: Fields
    windows: Lengths
    half_lives: Lengths
    ttl_us: int | None
    tile_us: int

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)

    @staticmethod
    def of(values: Mapping[str, Any]) -> ViewDefinition:
        """What `to_json` gave, read back from JSON."""
        pairs = ("entity", "values", "columns", "windows", "half_lives")
        plain = {name: tuple((first, second) for first, second in values[name]) for name in pairs}
        aggregates = tuple(tuple(each) for each in values["aggregates"])
        return ViewDefinition(**{**values, **plain, "aggregates": aggregates, "key": tuple(values["key"])})

    @cached_property
    def longest_us(self) -> int:
        """The length of the longest window, 0 without windows."""
        return max((length for _, length in self.windows), default=0)

    @cached_property
    def kept_us(self) -> int | None:
        """How long an event is kept after it was known (of an as-of view: happened), None for ever; what decays is not forgotten.

        Twice the time for which it counts: so a row that is a little old is still answered as of its own time.
        """
        return None if self.ttl_us is None or self.half_lives else 2 * max(self.ttl_us, self.longest_us)

    @cached_property
    def aged(self) -> int:
        """The row of a tile by which its events grow old."""
        return EVENT if self.kind == "asof" else KNOWN

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(name for name, _ in self.columns)

    @cached_property
    def kinds(self) -> tuple[ColumnType, ...]:
        """The types of the stored columns."""
        return tuple(kind for _, kind in self.values)

    @cached_property
    def numeric(self) -> bool:
        """Whether all stored columns are plain numbers."""
        return set(self.kinds) <= {"int", "float"}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The aggregated columns, with their places."""
        made: list[Part] = []
        row, state, sketches, totals = FIRST_VALUE, FIRST_STATE, 0, 0
        for mark, ((column, kind), asked) in enumerate(zip(self.values, self.aggregates, strict=True)):
            rows = {role: row + place for place, role in enumerate(_roles(kind, asked))}
            names = ["count", *(("total",) if {"sum", "mean"} & set(asked) else ()), *(e for e in ("min", "max", "last") if e in asked)]
            if set(DECAYED) & set(asked):
                names += [f"{what}{number}" for number in range(len(self.half_lives)) for what in ("amount", "weight")]
            states = {name: state + place for place, name in enumerate(names)}
            distinct, summed = "distinct" in asked, "total" in states
            made.append(Part(column, kind, asked, mark, rows, states, sketches if distinct else -1, totals if summed else -1))
            row, state, sketches, totals = row + len(rows), state + len(states), sketches + distinct, totals + summed
        return tuple(made)

    @cached_property
    def total_rows(self) -> Ints:
        """The rows of a tile that are summed, in order of `Part.total`."""
        summed = [part for part in self.parts if part.total >= 0]
        return np.array([part.rows["quanta" if part.kind == "float" else "value"] for part in summed], np.int64)

    @cached_property
    def total_states(self) -> Ints:
        """The rows of a summary with the totals, in order of `Part.total`."""
        return np.array([part.states["total"] for part in self.parts if part.total >= 0], np.int64)

    @cached_property
    def count_states(self) -> Ints:
        """The rows of a summary with the counts, in order of `Part.mark`."""
        return np.array([part.states["count"] for part in self.parts], np.int64)

    @cached_property
    def text_rows(self) -> tuple[int, ...]:
        """The rows of a tile's matrix that name texts."""
        if self.kind == "asof":
            return tuple(FIRST_VALUE + place for place, (_, kind) in enumerate(self.values) if kind == "string")
        return tuple(part.rows["value"] for part in self.parts if part.kind == "string" and "value" in part.rows)

    @cached_property
    def summary_text_rows(self) -> tuple[int, ...]:
        """The rows of a summary's matrix that name texts."""
        if self.kind == "asof":
            return tuple(row + 1 for row in self.text_rows)
        texts = [part for part in self.parts if part.kind == "string"]
        return tuple(part.states[name] for part in texts for name in ("min", "max", "last") if name in part.states)


def _roles(kind: ColumnType, asked: Sequence[str]) -> list[str]:
    """Which numbers a tile keeps of a column: its value, also as the integer that is summed, and its hash."""
    wanted = set(asked)
    roles = []
    if wanted & {"min", "max", "last", *DECAYED} or (kind != "float" and wanted & {"sum", "mean"}):
        roles.append("value")
    if kind == "float" and wanted & {"sum", "mean"}:
        roles.append("quanta")
    return [*roles, "hash"] if "distinct" in wanted else roles


def tile_us(longest_us: int, span_us: int) -> int:
    """The width of a view's tiles: few of them in its longest window and in the time that its events span, and at least a second."""
    return max(longest_us // TILES, span_us // SPAN_TILES, 1_000_000)
