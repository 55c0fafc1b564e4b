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
