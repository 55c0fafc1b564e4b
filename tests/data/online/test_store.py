"""The online store: rows by key, keys as requests write them, features of one entity or of many in one read."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import Dataset
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.build import build
from bedplate.data.online.store import Asked, OnlineStore, model_value
from data.histories import ASOF, DATASET, START, WINDOWED, Row, table

SLOTTED = Dataset(source="log://events", key=("carrier", "flight", "slot"))
BASE: Row = {"carrier": "AA", "flight": 1, "origin": "EWR", "slot": START, "gain": 1.0, "bags": 2, "happened_at": START, "_partition": 0}


def event(minutes: float | None, **values: Any) -> Row:
    """An event, known some minutes after the start."""
    return BASE | {"_known_at": None if minutes is None else START + timedelta(minutes=minutes)} | values


EVENTS = [event(5, gain=1.5), event(3, flight=2, gain=0.5), event(9, gain=None), event(None, gain=7.0), event(1, flight=None)]


FEATURES = {"w": WINDOWED, "l": ASOF}


def made(folder: Path, rows: Sequence[Row] = EVENTS, dataset: Dataset = SLOTTED) -> OnlineStore:
    """An open store of both kinds of view over the rows."""
    build(folder / "online.db", FEATURES, {"events": (dataset, table(rows))}, lambda *_: None, 0)
    return OnlineStore(SqliteEngine(folder / "online.db"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """An open store of EVENTS."""
    opened = made(tmp_path)
    yield opened
    opened.close()


KEY = {"carrier": "AA", "flight": 1, "slot": START}


def test_a_key_finds_its_latest_known_row(store: OnlineStore) -> None:
    row = store.row("events", KEY)
    assert row == {
        "carrier": "AA",
        "flight": 1,
        "origin": "EWR",
        "slot": START,
        "gain": None,
        "bags": 2,
        "happened_at": START,
        "_known_at": START + timedelta(minutes=9),
    }


@pytest.mark.parametrize(
    "slot", ["2013-11-03T04:00:00Z", "2013-11-03T00:00:00-04:00", "2013-11-03T04:00:00.000", START.replace(tzinfo=None)]
)
def test_times_of_a_key_as_requests_write_them(store: OnlineStore, slot: object) -> None:
    assert store.row("events", KEY | {"slot": slot}) == store.row("events", KEY)


def test_a_whole_number_is_an_integer_however_it_is_written(store: OnlineStore) -> None:
    assert store.row("events", KEY | {"flight": 1.0}) == store.row("events", KEY)


@pytest.mark.parametrize("change", [{"flight": 99}, {"carrier": None}, {"flight": None}, {"slot": "2014-01-01"}, {"carrier": 'A"A'}])
def test_a_key_that_is_not_there_finds_nothing(store: OnlineStore, change: Row) -> None:
    assert store.row("events", KEY | change) is None


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (KEY | {"flght": 1}, r"events has no such key field \(got 'flght'\)\. Fix: did you mean 'flight'\?"),
        ({"carrier": "AA", "slot": START}, r"a key field of events is missing \(got 'flight'\)\. Fix: give all of carrier, flight, slot"),
        (KEY | {"flight": "one"}, r"events\.flight has the wrong type \(got 'one'\)\. Fix: give int"),
        (KEY | {"flight": 1.5}, r"events\.flight has the wrong type"),
        (KEY | {"flight": float("inf")}, r"events\.flight has the wrong type"),
        (KEY | {"flight": True}, r"events\.flight has the wrong type"),
        (KEY | {"carrier": 7}, r"events\.carrier has the wrong type"),
        (KEY | {"carrier": "\ud800"}, r"events\.carrier has the wrong type"),
        (KEY | {"slot": "noon"}, r"events\.slot is no time \(got 'noon'\)\. Fix: write ISO 8601"),
        (KEY | {"slot": "0001-01-01T00:00:00+23:00"}, r"events\.slot is no time"),
        (KEY | {"slot": [1]}, r"events\.slot has the wrong type"),
    ],
)
def test_a_key_that_cannot_be(store: OnlineStore, key: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        store.row("events", key)


def test_unknown_names_have_nearest_ones(store: OnlineStore) -> None:
    with pytest.raises(NotFound, match=r"no such dataset \(got 'event'\)\. Fix: did you mean 'events'\?"):
        store.row("event", KEY)
    with pytest.raises(NotFound, match=r"no such feature \(got 'x'\)"):
        store.features("x", {}, START)
    with pytest.raises(DataError, match=r"l has no such key field \(got 'orign'\)\. Fix: did you mean 'origin'\?"):
        store.features("l", {"orign": "EWR"}, START)


def test_a_null_entity_has_no_features(store: OnlineStore) -> None:
    assert set(store.features("l", {"origin": None}, START).values()) == {None}
    assert set(store.features("w", {"origin": "EWR", "slot": None}, START).values()) == {None}


def test_an_own_key_hides_all_its_events(store: OnlineStore) -> None:
    at, entity = START + timedelta(minutes=10), {"origin": "EWR", "slot": "2013-11-03T04:00:00Z"}
    seen, hidden = (store.features("w", entity, at, own) for own in (None, KEY | {"slot": "2013-11-03T04:00:00Z"}))
    assert (seen["w__bags__count__1h"], seen["w__gain__count__1h"], seen["w__gain__mean__1h"]) == (4, 3, 1.0)
    assert (hidden["w__bags__count__1h"], hidden["w__gain__count__1h"], hidden["w__gain__mean__1h"]) == (2, 2, 0.75)
    other_key = store.features("w", entity, at, {"carrier": "AA", "flight": 1})
    assert other_key == seen


def test_an_own_event_at_the_start_of_a_window_is_not_taken_out_twice(store: OnlineStore) -> None:
    at, entity = START + timedelta(minutes=65), {"origin": "EWR", "slot": START}
    assert store.features("w", entity, at, KEY)["w__bags__count__1h"] == 0
    assert store.features("w", entity, at)["w__bags__count__1h"] == 1


def test_a_naive_time_is_utc(store: OnlineStore) -> None:
    at = START + timedelta(minutes=10)
    assert store.features("l", {"origin": "EWR"}, at.replace(tzinfo=None)) == store.features("l", {"origin": "EWR"}, at)


def test_threads_share_a_store(store: OnlineStore) -> None:
    entity, moments = {"origin": "EWR", "slot": START}, [START + timedelta(minutes=minute) for minute in range(12)]
    expected = [store.features("w", entity, moment) for moment in moments]
    results: list[list[Any]] = []

    def ask() -> None:
        results.append([store.features("w", entity, moment) for _ in range(5) for moment in moments])

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected * 5] * 6


def test_datasets_without_a_key_are_not_kept_by_it(tmp_path: Path) -> None:
    keyless = Dataset(source="log://events", event_time="happened_at")
    store = made(tmp_path, dataset=keyless)
    assert store.features("l", {"origin": "EWR"}, START + timedelta(minutes=10), KEY)["l__bags"] == 2
    with pytest.raises(NotFound, match="no such dataset"):
        store.row("events", {})
    store.close()


def test_odd_text_and_times_come_back_as_they_were(tmp_path: Path) -> None:
    odd = 'é"\\\n\x00\u2028'
    moment = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    rows = [event(1, carrier=odd, happened_at=moment, gain=5e-324, bags=-(2**63))]
    build(tmp_path / "online.db", {}, {"events": (DATASET, table(rows))}, lambda *_: None, 0)
    store = OnlineStore(SqliteEngine(tmp_path / "online.db"))
    row = store.row("events", {"carrier": odd, "flight": 1})
    assert row is not None
    assert (row["carrier"], row["happened_at"], row["gain"], row["bags"]) == (odd, moment, 5e-324, -(2**63))
    store.close()


def test_values_as_a_training_set_holds_them() -> None:
    moment = datetime(2013, 1, 1, 10, 0, 0, 250000, tzinfo=UTC)
    assert [model_value(value) for value in (None, "UA", True, 3, 2.5, moment)] == [None, "UA", 1.0, 3.0, 2.5, moment.timestamp()]


class Counting:
    """An engine that counts its reads."""

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self.reads = 0

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.reads += 1
        return self._engine.get(keys)

    def close(self) -> None:
        self._engine.close()


def test_a_batch_is_one_read(tmp_path: Path) -> None:
    made(tmp_path).close()
    engine = Counting(SqliteEngine(tmp_path / "online.db"))
    store = OnlineStore(engine)  # type: ignore[arg-type]  # it reads only
    engine.reads = 0
    at = START + timedelta(minutes=10)
    asked = [
        Asked(view, entity, at) for _ in range(50) for view, entity in (("w", {"origin": "EWR", "slot": START}), ("l", {"origin": "EWR"}))
    ]
    answers = store.read(asked)
    assert engine.reads == 1
    assert answers[0] == store.features("w", {"origin": "EWR", "slot": START}, at)
    assert answers[1::2] == [store.features("l", {"origin": "EWR"}, at)] * 50
    engine.reads = 0
    assert [found is not None for found in store.rows([("events", KEY), ("events", KEY | {"flight": 99}), ("events", KEY)])] == [
        True,
        False,
        True,
    ]
    assert engine.reads == 1
    store.close()


def test_what_was_asked_of_no_entity_or_of_an_unknown_one(store: OnlineStore) -> None:
    unknown, none = store.read([Asked("w", {"origin": "LGA", "slot": START}, START), Asked("w", {"origin": None, "slot": START}, START)])
    assert (unknown["w__bags__count__1h"], unknown["w__bags__sum__1h"], unknown["w__bags__mean__1h"]) == (0, 0, None)
    assert set(none.values()) == {None}


def test_a_store_of_no_such_name(tmp_path: Path) -> None:
    made(tmp_path).close()
    engine = SqliteEngine(tmp_path / "online.db")
    with pytest.raises(NotFound, match="no online store of that name"):
        OnlineStore(engine, "bedplate:other:")
    engine.close()
