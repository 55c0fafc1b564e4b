"""Seeded histories of events, and what offline, streaming and online say of them, beside a reference that looks at every event.

A history has late, duplicate and out-of-order events, equal times, nulls and NaN, and hours around a daylight-saving change. Streaming:
the events come in batches, some of them again, into a store that was made of the first few.
Does not know: prefix sums, tiles or sketches.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.clock import duration_s
from bedplate.core.spec import Dataset, Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online import rows as packed
from bedplate.data.online.build import build_below
from bedplate.data.online.protocol import OnlineEngine
from bedplate.data.online.store import Asked, OnlineStore
from data.histories import KEY, SCHEMA, START, Row, same_key

DATASET = Dataset(source="log://events", key=KEY, event_time="happened_at", known_at="known_at", backfill="trusted")
FEATURES = {
    "w": Feature.model_validate(
        {
            "from": "events",
            "entity": ["origin"],
            "windows": ["30m", "90m", "2d"],
            "half_lives": ["45m"],
            "aggregates": {
                "gain": ["count", "sum", "mean", "min", "max", "last", "distinct", "decayed_sum", "decayed_count", "decayed_mean"],
                "bags": ["count", "sum", "mean", "min", "max", "last", "distinct"],
                "carrier": ["min", "max", "last", "distinct"],
                "happened_at": ["min", "max", "last"],
            },
        }
    ),
    "l": Feature.model_validate({"from": "events", "entity": "origin", "columns": ["gain", "bags", "carrier", "happened_at"]}),
    "t": Feature.model_validate({"from": "events", "entity": "origin", "columns": ["bags"], "ttl": "3h"}),
}


def history(seed: int, most: int = 40) -> tuple[list[Row], list[Row]]:
    """Events and rows to ask for, from a seed. Half of the seeds have all within a few hours around the end of daylight-saving time."""
    draw = random.Random(seed)
    spread = draw.choice([3, 12, 200])
    events = [_row(draw, spread) for _ in range(draw.randrange(most))]
    return _numbered(draw, events), _numbered(draw, [_row(draw, spread) for _ in range(draw.randrange(1, 6))])


def _row(draw: random.Random, spread: int) -> Row:
    happened = START + timedelta(minutes=30 * draw.randrange(-3, spread), seconds=draw.choice([0, 0, 0.000001, 17]))
    known = happened + timedelta(minutes=draw.choice([0, 0, 5, 30, 90, 1500]))
    return {
        "carrier": draw.choice(["AA", "AA", "Ü\"'", None]),
        "flight": draw.randrange(6),
        "origin": draw.choice(["EWR", "EWR", "JFK", None]),
        "slot": START,
        "gain": draw.choice([None, math.nan, 0.1, 0.2, -0.3, 2.5e-6, 1e9, draw.uniform(-1e6, 1e6)]),
        "bags": draw.choice([None, draw.randrange(-3, 3), draw.randrange(-(2**50), 2**50)]),
        "happened_at": draw.choice([happened, happened, happened, None]),
        "_known_at": draw.choice([known] * 9 + [None]),
        "_partition": draw.randrange(2),
    }


def _numbered(draw: random.Random, made: list[Row]) -> list[Row]:
    """Offsets in the order in which events came, which is that of no time."""
    ends = {0: draw.choice([0, 7]), 1: 0}
    for row in made:
        row["_offset"] = ends[row["_partition"]]
        ends[row["_partition"]] += draw.choice([1, 1, 3])
    return made


def table(made: Sequence[Row]) -> pa.Table:
    """Rows as a cut."""
    return pa.Table.from_pylist(sorted(made, key=lambda row: (row["_partition"], row["_offset"])), SCHEMA)


@contextmanager
def small_heads(events: int) -> Iterator[None]:
    """Heads that hold few events themselves, so that short histories have tiles too."""
    before = packed.INLINE
    packed.INLINE = events
    try:
        yield
    finally:
        packed.INLINE = before


def streamed(engine: OnlineEngine, namespace: str, events: Sequence[Row], seed: int, now_us: int = 0) -> OnlineStore:
    """A store of the first few events, to which the others came in batches, each event once or several times."""
    draw = random.Random(seed)
    first = draw.randrange(len(events) + 1)
    build_below(engine, namespace, FEATURES, {"events": (DATASET, table(events[:first]))}, lambda *_: None, now_us)
    store = OnlineStore(engine, namespace)
    place = first
    while place < len(events):
        end = min(len(events), place + max(1, round(len(events) * draw.choice([0.02, 0.1, 0.4]))))
        store.apply("events", table(events[draw.randrange(max(0, place - 20), place + 1) : end]), now_us)
        place = end
    return store


def online(store: OnlineStore, spine: Sequence[Row]) -> list[Row]:
    """The features of the spine's rows from a store, in one read, without a row's own events."""
    asked, places = [], []
    owns = store.rows([("events", {name: row[name] for name in KEY}) for row in spine])
    for place, (row, own) in enumerate(zip(spine, owns, strict=True)):
        if row["_known_at"] is not None:
            hidden = frozenset(own.events) if own is not None else frozenset()
            asked += [Asked(view, {"origin": row["origin"]}, row["_known_at"], hidden) for view in FEATURES]
            places.append(place)
    found = iter(store.read(asked))
    result: list[Row] = [{name: None for view in store.contents.views.values() for name in view.names} for _ in spine]
    for place in places:
        for _ in FEATURES:
            result[place] |= next(found)
    return result


def reference(spine: Sequence[Row], events: Sequence[Row]) -> list[Row]:
    """The same by looking at every event for every row."""
    return [{name: value for view, feature in FEATURES.items() for name, value in _values(view, feature, row, events)} for row in spine]


def _values(view: str, feature: Feature, row: Row, events: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    at = row["_known_at"]
    asked = at is not None and row["origin"] is not None
    seen = [e for e in events if asked and e["_known_at"] is not None and e["_known_at"] <= at and e["origin"] == row["origin"]]
    seen = [event for event in seen if not same_key(event, row, KEY)]
    if feature.columns:
        timed = [event for event in seen if event["happened_at"] is not None]
        best = max(timed, key=lambda e: (e["happened_at"], e["_known_at"], e["_partition"], e["_offset"]), default=None)
        if best is not None and feature.ttl and best["happened_at"] < at - timedelta(seconds=duration_s(feature.ttl)):
            best = None
        yield from ((f"{view}__{name}", None if best is None else best[name]) for name in feature.columns)
        return
    never = datetime(1, 1, 1, tzinfo=UTC)
    seen.sort(key=lambda e: (e["_known_at"], e["happened_at"] or never, e["_partition"], e["_offset"]))
    for column, aggregates in feature.aggregates.items():
        for aggregate in aggregates:
            for length in feature.half_lives if aggregate.startswith("decayed") else feature.windows:
                reach = timedelta(seconds=duration_s(length))
                inside = [e for e in seen if aggregate.startswith("decayed") or e["_known_at"] > at - reach]
                pairs = [(e["_known_at"], e[column]) for e in inside if e[column] is not None and e[column] == e[column]]
                value = _aggregate(aggregate, pairs, at, reach, column == "gain") if asked else None
                yield f"{view}__{column}__{aggregate}__{length}", value


def _aggregate(aggregate: str, pairs: Sequence[tuple[datetime, Any]], at: datetime, reach: timedelta, fixed: bool) -> Any:
    values = [value for _, value in pairs]
    if aggregate in ("count", "distinct"):
        return len(values) if aggregate == "count" else len(set(values))
    if aggregate in ("sum", "mean"):
        scale = 1_000_000 if fixed else 1
        total = sum(round(value * scale) for value in values)
        if aggregate == "sum":
            return total / scale if fixed else total
        return float(total) / float(len(values) * scale) if values else None
    if aggregate.startswith("decayed"):
        weights = [2 ** (-((at - known) / reach)) for known, _ in pairs]
        weight = math.fsum(weights)
        amount = math.fsum(w * float(value) for w, value in zip(weights, values, strict=True))
        if aggregate == "decayed_mean":
            return amount / weight if weight else None
        return amount if aggregate == "decayed_sum" else weight
    if not values:
        return None
    return {"min": min, "max": max, "last": lambda found: found[-1]}[aggregate](values)


def assert_agree(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], what: str) -> None:
    """Equal values of equal types: whatever decays to 1e-9 of the greatest amount that it can be made of, all else to the last bit."""
    for place, (left, right) in enumerate(zip(one, other, strict=True)):
        assert list(left) == list(right), what
        for name, value in left.items():
            compared = right[name]
            if "decayed" in name and value is not None and compared is not None:
                assert math.isclose(value, compared, rel_tol=1e-9, abs_tol=1e-2), f"{what}: row {place}, {name}: {value!r} {compared!r}"
            else:
                value, compared = (None if each is None or each != each else each for each in (value, compared))
                assert (type(value), value) == (type(compared), compared), f"{what}: row {place}, {name}: {value!r} is not {compared!r}"


def together(seeds: Sequence[int], most: int = 40) -> list[tuple[list[Row], list[Row]]]:
    """The histories of seeds, each with entities and keys of its own, with offsets in one order in which all of their events came."""
    draw = random.Random(seeds[0])
    made = []
    for seed in seeds:
        events, spine = history(seed, most)
        for row in (*events, *spine):
            row["flight"] += 10 * seed
            row["origin"] = None if row["origin"] is None else f"{seed} {row['origin']}"
        made.append((events, spine))
    turns = [place for place, (events, _) in enumerate(made) for _ in events]
    draw.shuffle(turns)
    coming = [iter(events) for events, _ in made]
    _numbered(draw, [next(coming[place]) for place in turns])
    return made


def check(seeds: Sequence[int], offline: Callable[[Path, Sequence[Row], Sequence[Row]], list[Row]] | None = None, most: int = 40) -> int:
    """Compare all ways for the histories of seeds, which share a store; returns how many values were compared."""
    histories = together(seeds, most)
    events = sorted((event for its, _ in histories for event in its), key=lambda event: (event["_offset"], event["_partition"]))
    spine = [row for _, its in histories for row in its]
    said = [values for its, rows in histories for values in reference(rows, its)]
    first_asked = min((row["_known_at"] for row in spine if row["_known_at"] is not None), default=START)
    now_us = round((first_asked + timedelta(hours=3)).timestamp() * 1e6)  # all that is asked for may still be asked for
    what = f"seeds {seeds[0]} to {seeds[-1]}"
    with tempfile.TemporaryDirectory() as folder, small_heads(random.Random(seeds[0]).choice([0, 3, 64])):
        for name, maker in (("online", _built), ("streaming", streamed)):
            engine = SqliteEngine.create(Path(folder) / f"{name}.db")
            engine.write_once()
            store = maker(engine, "", events, seeds[0], now_us)
            assert_agree(online(store, spine), said, f"{what}, {name}")
            store.close()
        if offline is not None:
            assert_agree(offline(Path(folder), spine, events), said, f"{what}, offline")
    return sum(len(row) for row in said)


def _built(engine: OnlineEngine, namespace: str, events: Sequence[Row], _seed: int, now_us: int) -> OnlineStore:
    build_below(engine, namespace, FEATURES, {"events": (DATASET, table(events))}, lambda *_: None, now_us)
    return OnlineStore(engine, namespace)
