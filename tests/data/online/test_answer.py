"""Answers: exact to the microsecond at both ends of a window, from few rows, and refused when what they need is forgotten."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.answer import needed
from bedplate.data.online.build import build_below
from bedplate.data.online.store import Asked, OnlineStore
from data import agreement
from data.histories import START, Row
from data.online.test_rows import MANY, VIEWS, event

HOUR = timedelta(hours=1)

MICROSECOND = timedelta(microseconds=1)


def store_of(path: Path, rows: list[Row], now_us: int = 0) -> OnlineStore:
    engine = SqliteEngine.create(path)
    build_below(engine, "", agreement.FEATURES, {"events": (agreement.DATASET, agreement.table(rows))}, lambda *_: None, now_us)
    return OnlineStore(engine)


def test_the_rows_that_are_needed_are_few_and_known_before(tmp_path: Path) -> None:
    assert len(needed(VIEWS["w"], 10**15, ())) <= 1 + len(VIEWS["w"].windows)
    assert needed(VIEWS["l"], 10**15, ()) == [10**15 // VIEWS["l"].tile_us]
    own = [(10**15 - 10**13, 0, 1), (10**15 + 1, 0, 2)]
    assert set(needed(VIEWS["l"], 10**15, own)) == {at // VIEWS["l"].tile_us for at in (10**15, 10**15 - 10**13)}, "later ones are not seen"


@pytest.mark.parametrize("rows", [MANY, MANY[:50]], ids=["tiles", "inline"])
def test_a_window_begins_after_its_start_and_ends_with_its_end(tmp_path: Path, rows: list[Row]) -> None:
    store = store_of(tmp_path / "online.db", rows)
    for place in (1, 10, 37, 49):
        at = rows[place]["_known_at"]
        moments = (at - MICROSECOND, at, at + MICROSECOND)
        counts = [store.features("w", {"origin": "EWR"}, moment)["w__bags__count__2d"] for moment in moments]
        known = [sum(1 for row in rows if moment - timedelta(days=2) < row["_known_at"] <= moment) for moment in moments]
        assert counts == known
    store.close()


def test_a_value_that_is_too_old_is_null(tmp_path: Path) -> None:
    store = store_of(tmp_path / "online.db", [event(7, 0)])
    for beyond, expected in ((timedelta(), 7), (MICROSECOND, None)):
        assert store.features("t", {"origin": "EWR"}, START + timedelta(hours=3) + beyond) == {"t__bags": expected}
    store.close()


@pytest.mark.parametrize("count", [2, 50, len(MANY)])
def test_what_is_forgotten_is_not_guessed_at(tmp_path: Path, count: int) -> None:
    rows = [event(0, -100), *(event(number, number) for number in range(1, count))]
    store = store_of(tmp_path / "online.db", rows, 2**62)
    newest = rows[-1]["_known_at"]
    assert store.features("t", {"origin": "EWR"}, newest) == {"t__bags": rows[-1]["bags"]}
    with pytest.raises(DataError, match="no longer holds what was known by then for feature 't'"):
        store.features("t", {"origin": "EWR"}, START - timedelta(hours=99))
    assert store.read([Asked("l", {"origin": "EWR"}, START - timedelta(hours=99))])[0]["l__bags"] == 0, "without a ttl all is kept"
    store.close()


def of_window(store: OnlineStore, hours: float, column: str, length: str) -> dict[str, object]:
    """What the aggregates of a column say so many hours after the start, by the name of each."""
    values = store.features("w", {"origin": "EWR"}, START + hours * HOUR)
    parts = [(name.split("__"), value) for name, value in values.items()]
    return {part[2]: value for part, value in parts if (part[1], part[3]) == (column, length)}


# Known after 1, 2 and 3 hours; the second has no gain, and the third came with the bags of the first.
THREE = [event(1, 1), event(2, 2) | {"gain": None, "bags": -4, "carrier": "Zü"}, event(3, 3) | {"gain": 0.5, "bags": 1, "carrier": None}]


@pytest.mark.parametrize("inline", [0, 64], ids=["tiles", "inline"])
@pytest.mark.parametrize(
    ("hours", "column", "length", "expected"),
    [
        (3, "gain", "2d", {"count": 2, "sum": 1.5, "mean": 0.75, "min": 0.5, "max": 1.0, "last": 0.5, "distinct": 2}),
        (2.5, "gain", "2d", {"count": 1, "sum": 1.0, "mean": 1.0, "min": 1.0, "max": 1.0, "last": 1.0, "distinct": 1}),
        (2, "gain", "30m", {"count": 0, "sum": 0.0, "mean": None, "min": None, "max": None, "last": None, "distinct": 0}),
        (3, "gain", "90m", {"count": 1, "sum": 0.5, "mean": 0.5, "min": 0.5, "max": 0.5, "last": 0.5, "distinct": 1}),
        (3, "bags", "2d", {"count": 3, "sum": -2, "mean": -2 / 3, "min": -4, "max": 1, "last": 1, "distinct": 2}),
        (3, "bags", "90m", {"count": 2, "sum": -3, "mean": -1.5, "min": -4, "max": 1, "last": 1, "distinct": 2}),
        (0.5, "bags", "2d", {"count": 0, "sum": 0, "mean": None, "min": None, "max": None, "last": None, "distinct": 0}),
        (60, "bags", "2d", {"count": 0, "sum": 0, "mean": None, "min": None, "max": None, "last": None, "distinct": 0}),
        (3, "carrier", "2d", {"min": "AA", "max": "Zü", "last": "Zü", "distinct": 2}),
        (1.5, "carrier", "2d", {"min": "AA", "max": "AA", "last": "AA", "distinct": 1}),
        (3, "carrier", "30m", {"min": None, "max": None, "last": None, "distinct": 0}),
        (3, "happened_at", "90m", {"min": START + 2 * HOUR, "max": START + 3 * HOUR, "last": START + 3 * HOUR}),
    ],
)
def test_windows_of_three_events_worked_out_by_hand(
    tmp_path: Path, inline: int, hours: float, column: str, length: str, expected: dict[str, object]
) -> None:
    with agreement.small_heads(inline):
        store = store_of(tmp_path / "online.db", THREE)
        assert of_window(store, hours, column, length) == expected
        store.close()


@pytest.mark.parametrize("inline", [0, 64], ids=["tiles", "inline"])
def test_what_decays_halves_with_each_half_life(tmp_path: Path, inline: int) -> None:
    """Gains of 1 and 0.5, the first 45 minutes before the second: after another 45 minutes they weigh a quarter and a half."""
    with agreement.small_heads(inline):
        store = store_of(tmp_path / "online.db", [event(1, 1), event(2, 1.75) | {"gain": 0.5}, event(3, 1.75) | {"gain": None}])
        found = of_window(store, 2.5, "gain", "45m")
        assert found == pytest.approx({"decayed_sum": 0.25 + 0.25, "decayed_count": 0.75, "decayed_mean": 2 / 3})
        later = of_window(store, 3.25, "gain", "45m")
        assert later == pytest.approx({"decayed_sum": 0.25, "decayed_count": 0.375, "decayed_mean": 2 / 3})
        before = of_window(store, 0.5, "gain", "45m")
        assert before == {"decayed_sum": 0.0, "decayed_count": 0.0, "decayed_mean": None}
        store.close()


@pytest.mark.parametrize("inline", [0, 64], ids=["tiles", "inline"])
def test_as_of_a_time_the_latest_that_happened_wins_even_when_it_was_known_before(tmp_path: Path, inline: int) -> None:
    """Flight 1 happened after hour 5 and was known in hour 6; what happened after hour 2 came in hour 7 and changes nothing."""
    rows = [event(1, 6) | {"happened_at": START + 5 * HOUR}, event(2, 7) | {"happened_at": START + 2 * HOUR}]
    rows += [event(3, 8) | {"happened_at": None}, event(4, 9) | {"happened_at": START + 9 * HOUR, "bags": None}]
    with agreement.small_heads(inline):
        store = store_of(tmp_path / "online.db", rows)
        bags = [store.features("l", {"origin": "EWR"}, START + hours * HOUR)["l__bags"] for hours in (5.5, 6, 7, 8.5, 9)]
        assert bags == [None, 1, 1, 1, None], "the last one has no bags, and that is its value"
        assert store.features("l", {"origin": "EWR"}, START + 9 * HOUR)["l__happened_at"] == START + 9 * HOUR
        store.close()


@pytest.mark.parametrize("inline", [0, 64], ids=["tiles", "inline"])
def test_entities_do_not_see_one_another(tmp_path: Path, inline: int) -> None:
    rows = [event(number, number) | {"origin": ("EWR", "JFK", "")[number % 3]} for number in range(1, 13)]
    with agreement.small_heads(inline):
        store = store_of(tmp_path / "online.db", rows)
        asked = [Asked("w", {"origin": name}, START + 12 * HOUR) for name in ("EWR", "JFK", "", "LGA")]
        assert [found["w__bags__sum__2d"] for found in store.read(asked)] == [3 + 6 + 9 + 12, 1 + 4 + 7 + 10, 2 + 5 + 8 + 11, 0]
        store.close()
