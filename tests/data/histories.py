"""Histories for the tests of features: late, duplicate, out of order, null, across a daylight-saving change, and a slow reference.

The reference looks at every event for every row: what it says is obviously what the definition says.
Does not know: prefix sums, tiles or any other way to be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from bedplate.core.clock import duration_s
from bedplate.core.spec import Dataset, Feature

Row = dict[str, Any]
TIME = pa.timestamp("us", tz="UTC")
START = datetime(2013, 11, 3, 4, tzinfo=UTC)  # New York's clocks go back at 06:00 UTC
SCHEMA = pa.schema(
    [
        ("carrier", pa.string()),
        ("flight", pa.int64()),
        ("origin", pa.string()),
        ("slot", TIME),
        ("gain", pa.float64()),
        ("bags", pa.int64()),
        ("happened_at", TIME),
        ("_known_at", TIME),
        ("_partition", pa.int64()),
        ("_offset", pa.int64()),
    ]
)
KEY = ("carrier", "flight")
DATASET = Dataset(source="log://events", key=KEY, event_time="happened_at", known_at="known_at")
WINDOWED = Feature.model_validate(
    {
        "from": "events",
        "entity": ["origin", "slot"],
        "windows": ["1h", "90m", "2d"],
        "aggregates": {"gain": ["mean", "count", "sum"], "bags": ["sum", "mean", "count"]},
    }
)
ASOF = Feature.model_validate({"from": "events", "entity": "origin", "columns": ["gain", "bags", "carrier", "happened_at"]})

_times = st.integers(-3, 12).map(lambda halves: START + timedelta(minutes=30 * halves))
_gains = st.one_of(st.none(), st.just(float("nan")), st.sampled_from([0.1, 0.2, -0.3, 2.5e-6, 1e9]), st.floats(-1e6, 1e6))
_events = st.fixed_dictionaries(
    {
        "carrier": st.sampled_from(["AA", "Ü\"'", None]),
        "flight": st.sampled_from([1, 2, 10]),
        "origin": st.sampled_from(["EWR", "JFK", None]),
        "slot": st.sampled_from([START, START, START + timedelta(hours=1)]),
        "gain": _gains,
        "bags": st.one_of(st.none(), st.integers(-(2**55), 2**55)),
        "happened_at": st.one_of(_times, st.none()),
        "_known_at": st.one_of(_times, _times, st.none()),
        "_partition": st.integers(0, 1),
    }
)
histories = st.lists(_events, max_size=14)
spines = st.lists(_events, max_size=8)


def table(rows: Sequence[Row]) -> pa.Table:
    """The rows as a cut of a dataset, in arrival order: offsets are given here."""
    ordered = sorted(rows, key=lambda row: row["_partition"])
    offsets = {0: 0, 1: 0}
    for row in ordered:
        row["_offset"] = offsets[row["_partition"]]
        offsets[row["_partition"]] += 1
    return pa.Table.from_pylist(ordered, SCHEMA)


def same_key(one: Row, other: Row, key: Sequence[str]) -> bool:
    """Whether both have the same key: a null equals nothing."""
    return bool(key) and all(one[name] is not None and one[name] == other[name] for name in key)


def seen_events(row: Row, events: Sequence[Row], entity: Sequence[str], own: Sequence[str]) -> list[Row]:
    """The events that a row may see: known by its time, of its entity, not itself."""
    return [
        event
        for event in events
        if event["_known_at"] is not None
        and row["_known_at"] is not None
        and event["_known_at"] <= row["_known_at"]
        and same_key(row, event, entity)
        and not same_key(row, event, own)
    ]


def reference(name: str, feature: Feature, row: Row, events: Sequence[Row], own: Sequence[str]) -> dict[str, Any]:
    """The features of one row, by looking at every event."""
    absent = row["_known_at"] is None or any(row[column] is None for column in feature.entity)
    seen = seen_events(row, events, feature.entity, own)
    if feature.columns:
        timed = [event for event in seen if event["happened_at"] is not None]
        order = ("happened_at", "_known_at", "_partition", "_offset")
        latest = max(timed, key=lambda event: tuple(event[column] for column in order), default=None)
        return {f"{name}__{column}": None if latest is None else latest[column] for column in feature.columns}
    result = {}
    for column, aggregates in feature.aggregates.items():
        for window in feature.windows:
            after = None if absent else row["_known_at"] - timedelta(seconds=duration_s(window))
            values = [event[column] for event in seen if event["_known_at"] > after and _is_value(event[column])]
            for aggregate in aggregates:
                result[f"{name}__{column}__{aggregate}__{window}"] = None if absent else _aggregated(aggregate, values, column)
    return result


def _is_value(value: Any) -> bool:
    return value is not None and value == value


def _aggregated(aggregate: str, values: Sequence[Any], column: str) -> Any:
    scale = 1_000_000 if column == "gain" else 1
    total = sum(round(value * scale) for value in values)
    if aggregate == "count":
        return len(values)
    if aggregate == "sum":
        return total if scale == 1 else total / scale
    return float(total) / float(len(values) * scale) if values else None


def plain(row: Mapping[str, Any]) -> Row:
    """A row for comparison: NaN as None, which is what both mean."""
    return {name: None if value is None or value != value else value for name, value in row.items()}


def assert_no_leak(featured: Callable[[Sequence[Row]], list[Row]], spine: Sequence[Row], events: Sequence[Row], own: Sequence[str]) -> None:
    """A row's features do not change when all that it may not see is gone: what is known later than its time, and itself.

    `featured` computes the features of the whole spine from events.
    """
    made = featured(events)
    assert len(made) == len(spine)
    for place, row in enumerate(spine):
        at = row["_known_at"]
        allowed = [event for event in events if at and event["_known_at"] and event["_known_at"] <= at and not same_key(row, event, own)]
        assert plain(featured(allowed)[place]) == plain(made[place]), f"row {place} at {at} sees what it may not see"
