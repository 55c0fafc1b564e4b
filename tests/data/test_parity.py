"""One definition, three readers: what the join gives for training, the online store gives for an answer, to the last bit."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bedplate.core.spec import Inputs, Split
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.features import View, materialize
from bedplate.data.feed import ShardFeed
from bedplate.data.join import join
from bedplate.data.online.build import build
from bedplate.data.online.store import OnlineStore, model_value
from bedplate.data.training_set import build as build_training_set
from data.histories import ASOF, DATASET, KEY, START, WINDOWED, Row, assert_no_leak, histories, plain, spines, table

EVENTS_A_TILE = 256
FEATURES = {"w": WINDOWED, "l": ASOF}


def views(folder: Path, events: Sequence[Row]) -> list[View]:
    """Both kinds of view."""
    return [materialize(name, feature, DATASET, table(events), folder / name) for name, feature in FEATURES.items()]


def offline(spine: Sequence[Row], made: Sequence[View], own: Sequence[str]) -> list[Row]:
    """The features of the spine's rows from the join."""
    names = [name for view in made for name, _ in view.columns]
    return [plain(row) for row in join(table(spine), "_known_at", made, own).select(names).to_pylist()]


def online(spine: Sequence[Row], made: Sequence[View], events: Sequence[Row], path: Path, own: Sequence[str]) -> list[Row]:
    """The same from the store, row by row; a row without a time is asked of nobody and has no features."""
    build(path, FEATURES, {"events": (DATASET, table(events))}, lambda *_: None, 0)
    store = OnlineStore(SqliteEngine(path))
    result = []
    for row in table(spine).to_pylist():
        features: dict[str, Any] = {}
        for view in made:
            entity = {name: row[name] for name in view.entity}
            asked = row["_known_at"] is not None
            found = store.features(view.name, entity, row["_known_at"], {name: row[name] for name in own} or None) if asked else {}
            features |= found or dict.fromkeys(name for name, _ in view.columns)
        result.append(plain(features))
    store.close()
    return result


def assert_identical(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> None:
    """Equal values of equal types, floats to the last bit."""
    for left, right in zip(one, other, strict=True):
        assert left == right
        assert {name: type(value) for name, value in left.items()} == {name: type(value) for name, value in right.items()}


@settings(max_examples=60, deadline=None)
@given(spines, histories)
def test_online_equals_offline(spine: list[Row], events: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = views(Path(folder), events)
        for own in (KEY, ()):
            assert_identical(online(spine, made, events, Path(folder) / f"{len(own)}.db", own), offline(spine, made, own))


def long_history(seed: int, count: int) -> list[Row]:
    """Many events of few entities, so that windows reach over tiles."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        happened = START + timedelta(seconds=draw.randrange(0, 40 * 3600))
        row = {"carrier": draw.choice(["AA", "UA"]), "flight": number // 2, "origin": draw.choice(["EWR", "JFK"]), "slot": START}
        row |= {"gain": draw.choice([None, draw.gauss(0, 30)]), "bags": draw.randrange(-5, 200), "happened_at": happened}
        rows.append(row | {"_known_at": happened + timedelta(seconds=draw.randrange(0, 7200)), "_partition": draw.randrange(2)})
    return rows


@pytest.mark.parametrize("seed", [1, 2])
def test_windows_over_many_tiles_are_equal(tmp_path: Path, seed: int) -> None:
    events = long_history(seed, 8 * EVENTS_A_TILE)
    spine = long_history(seed, 300)
    made = views(tmp_path, events)
    results = offline(spine, made, KEY)
    assert_identical(online(spine, made, events, tmp_path / "online.db", KEY), results)
    assert max(row["w__bags__count__2d"] for row in results) > 3 * EVENTS_A_TILE


@settings(max_examples=5, deadline=None)
@given(spines, histories)
def test_an_answer_sees_no_more_than_a_training_row_may(spine: list[Row], events: list[Row]) -> None:
    ordered = table(spine).to_pylist()

    def featured(known: Sequence[Row]) -> list[Row]:
        rows = [dict(row) for row in known]
        with tempfile.TemporaryDirectory() as folder:
            return online(ordered, views(Path(folder), rows), rows, Path(folder) / "online.db", KEY)

    assert_no_leak(featured, ordered, table(events).to_pylist(), KEY)


def test_an_answer_is_made_of_what_the_model_was_trained_on(tmp_path: Path) -> None:
    events = [row | {"flight": number, "gain": row["gain"] or 0.5} for number, row in enumerate(long_history(3, 400))]
    cut, made = table(events), views(tmp_path, events)
    inputs = Inputs(spine="events", columns=("carrier", "bags", "happened_at"), label="events.gain", features=("w", "l"))
    build_training_set(inputs, Split(valid=0.0, test=0.0), cut, DATASET, cut, made, tmp_path / "set", lambda *_: None)
    feed = ShardFeed(tmp_path / "set")
    trained = feed.columns("train")
    build(tmp_path / "online.db", FEATURES, {"events": (DATASET, cut)}, lambda *_: None, 0)
    store = OnlineStore(SqliteEngine(tmp_path / "online.db"))
    for place, row in enumerate(cut.to_pylist()):
        key = {name: row[name] for name in KEY}
        answered = dict(store.row("events", key) or {})
        for view in made:
            answered |= store.features(view.name, {name: answered[name] for name in view.entity}, row["_known_at"], key)
        for name in feed.schema.numeric:
            assert same_number(model_value(answered[name]), trained[name][place]), name
        for name in feed.schema.categorical:
            code = int(trained[name][place])
            assert answered[name] == (None if code < 0 else feed.dictionary(name)[code])
    store.close()


def same_number(answered: float | str | None, trained: float) -> bool:
    """Whether a number of an answer is that of a training row: null is NaN there."""
    return bool(np.isnan(trained)) if answered is None else answered == trained
