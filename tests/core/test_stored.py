"""Stored records look like dicts of lists, in the order in which the keys came, whether they are in memory, in rows or in both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import LedgerError
from bedplate.core.stored import Codec, Lists, Rows, Source, create

ROWS: Codec[dict[str, Any]] = Codec(columns={"color": lambda value: str(value["color"])})
LISTS: Codec[dict[str, Any]] = Codec(columns={"color": lambda value: str(value["color"])}, listed=True, pairs=True)
KEYS = st.sampled_from(["a", "b", '["c"]', "ä"])
PAIRS = st.tuples(KEYS, KEYS)
VALUES = st.fixed_dictionaries({"color": st.sampled_from(["red", "green"]), "n": st.integers()})


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "things", ROWS)
    create(connection, "lists", LISTS)
    yield connection
    connection.close()


def opened(database: sqlite3.Connection) -> tuple[Rows[str, dict[str, Any]], Lists[Any, dict[str, Any]]]:
    source = Source(database, lambda: None)
    return Rows(source, "things", ROWS), Lists(source, "lists", LISTS)


def filled(database: sqlite3.Connection) -> None:
    rows, lists = opened(database)
    for number, key in enumerate(("x", "y", "z")):
        rows[key] = {"color": "red" if number else "green", "n": number}
        lists.setdefault((key, "p")).append({"color": "red", "n": number})
    lists["x", "p"].append({"color": "green", "n": 9})
    rows.save()
    lists.save()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("append"), PAIRS, VALUES),
        st.tuples(st.just("save")),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("where"), st.sampled_from(["red", "green"])),
        st.tuples(st.just("all")),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_they_are_what_dicts_would_be(history: list[tuple[Any, ...]]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "things", ROWS)
    create(connection, "lists", LISTS)
    rows, lists = opened(connection)
    plain: dict[str, Any] = {}
    many: dict[Any, list[Any]] = {}
    for what, *given_ in history:
        if what == "set":
            rows[given_[0]] = given_[1]
            plain[given_[0]] = given_[1]
        elif what == "append":
            lists.setdefault(given_[0], []).append(given_[1])
            many.setdefault(given_[0], []).append(given_[1])
        elif what == "save":
            rows.save()
            lists.save()
            rows, lists = opened(connection)
        elif what == "get":
            assert rows.get(given_[0]) == plain.get(given_[0])
            assert (given_[0] in rows) == (given_[0] in plain)
        elif what == "where":
            same = [value for value in plain.values() if value["color"] == given_[0]]
            assert rows.where("color", given_[0]) == same
            assert rows.last("color", given_[0]) == (same[-1] if same else None)
            for pair, values in many.items():
                assert lists.first(pair, "color", given_[0]) == next((value for value in values if value["color"] == given_[0]), None)
        else:
            check(rows, lists, plain, many)
    check(rows, lists, plain, many)
    connection.close()


def check(rows: Rows[str, Any], lists: Lists[Any, Any], plain: dict[str, Any], many: dict[Any, list[Any]]) -> None:
    assert list(rows) == list(plain)
    assert list(rows.items()) == list(plain.items())
    assert list(rows.values()) == list(plain.values())
    assert len(rows) == len(plain)
    assert list(lists) == list(many)
    assert len(lists) == len(many)
    for pair, values in many.items():
        assert list(lists[pair]) == values
        assert (len(lists[pair]), lists[pair][-1], lists[pair][1:]) == (len(values), values[-1], values[1:])


def test_one_value_is_read_without_the_others(database: sqlite3.Connection) -> None:
    filled(database)
    rows, lists = opened(database)
    assert rows["y"]["n"] == 1
    assert list(rows._seen) == ["y"]
    assert lists["x", "p"][-1]["n"] == 9
    assert list(lists["x", "p"]._seen) == [1]  # type: ignore[attr-defined]
    assert list(rows) == ["x", "y", "z"]
    assert list(rows._seen) == ["y"], "the names alone are no reason to read the values"


def test_what_was_read_is_the_same_object_again(database: sqlite3.Connection) -> None:
    filled(database)
    rows, lists = opened(database)
    held = rows["z"]
    held["n"] = 77
    assert list(rows.values())[2] is held
    assert lists["x", "p"] is lists["x", "p"]


def test_a_missing_key_is_a_key_error(database: sqlite3.Connection) -> None:
    filled(database)
    rows, lists = opened(database)
    with pytest.raises(KeyError):
        rows["q"]
    with pytest.raises(KeyError):
        lists["q", "p"]
    assert lists.first(("q", "p"), "color", "red") is None
    assert rows.get("q") is None


@pytest.mark.parametrize("place", [3, -3, 2])
def test_a_place_outside_a_list(database: sqlite3.Connection, place: int) -> None:
    filled(database)
    _, lists = opened(database)
    with pytest.raises(IndexError):
        lists["x", "p"][place]


def test_nothing_is_ever_taken_away_or_changed_in_a_list(database: sqlite3.Connection) -> None:
    filled(database)
    rows, lists = opened(database)
    values = lists["x", "p"]
    for forbidden in (
        lambda: rows.pop("x"),
        lambda: lists.pop(("x", "p")),
        lambda: values.pop(),
        lambda: values.insert(0, {}),
        lambda: values.__setitem__(0, {}),
        lambda: lists.__setitem__(("x", "p"), []),
    ):
        with pytest.raises(LedgerError):
            forbidden()


def test_names_of_the_wrong_type_are_refused(database: sqlite3.Connection) -> None:
    rows, lists = opened(database)
    rows["x"] = {"color": "red"}
    rows[3] = {"color": "red"}  # type: ignore[index]
    with pytest.raises(LedgerError, match="wrong type"):
        rows.save()
    with pytest.raises(LedgerError, match="wrong type"):
        lists["x"]


def test_lists_compare_and_show_as_lists_do(database: sqlite3.Connection) -> None:
    filled(database)
    _, lists = opened(database)
    values = lists["y", "p"]
    assert values == [{"color": "red", "n": 1}]
    assert values != 3
    assert repr(values) == "[{'color': 'red', 'n': 1}]"
    with pytest.raises(TypeError):
        hash(values)


@pytest.mark.parametrize("statement", ["UPDATE things SET body = body || ' '", "UPDATE things SET crc = crc + 1", "DROP TABLE things"])
def test_damage_is_told_and_never_shown(database: sqlite3.Connection, statement: str) -> None:
    filled(database)
    told = []
    rows: Rows[str, Any] = Rows(Source(database, lambda: told.append(1)), "things", ROWS)
    database.execute(statement)
    with pytest.raises(LedgerError, match="thrown away"):
        rows["x"]
    assert told == [1]


def test_values_are_kept_as_the_codec_says(database: sqlite3.Connection) -> None:
    codec: Codec[complex] = Codec(lambda value: [value.real, value.imag], lambda values: complex(*values), {"color": lambda _: "none"})
    rows: Rows[str, complex] = Rows(Source(database, lambda: None), "things", codec)
    rows["x"] = 1 + 2j
    rows.save()
    assert json.loads(database.execute("SELECT body FROM things").fetchone()[0]) == [1.0, 2.0]
    again: Rows[str, complex] = Rows(Source(database, lambda: None), "things", codec)
    assert again["x"] == 1 + 2j
