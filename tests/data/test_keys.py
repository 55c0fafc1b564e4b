"""Keys as codes and as text: two forms of one equality."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from bedplate.core.errors import DataError
from bedplate.data.keys import column, encode, lookup, text, texts
from bedplate.data.threads import THREADED_ROWS
from data.histories import KEY, START, TIME, Row, histories, table

NAMES = ["carrier", "origin", "slot", "flight"]


@given(histories)
def test_codes_are_equal_where_tuples_are(rows: list[Row]) -> None:
    cut = table(rows)
    codes, distinct = encode(cut, NAMES, "events")
    tuples = [tuple(row[name] for name in NAMES) for row in cut.to_pylist()]
    listed = [tuple(row.values()) for row in distinct.to_pylist()]
    assert [None if code < 0 else listed[code] for code in codes] == [None if None in each else each for each in tuples]
    assert listed == sorted(set(listed))


@given(histories, histories)
def test_lookup_finds_what_is_there_and_nothing_else(known: list[Row], asked: list[Row]) -> None:
    _, distinct = encode(table(known), KEY, "known")
    codes, present = lookup(distinct, table(asked), "asked")
    listed = [tuple(row.values()) for row in distinct.to_pylist()]
    tuples = [tuple(row[name] for name in KEY) for row in table(asked).to_pylist()]
    assert codes.tolist() == [listed.index(each) if each in listed else -1 for each in tuples]
    assert present.tolist() == [None not in each for each in tuples]


@given(histories)
def test_texts_are_json_with_times_in_microseconds(rows: list[Row]) -> None:
    cut = table(rows).select(["carrier", "flight", "slot", "gain"])
    for row, written in zip(cut.to_pylist(), texts(cut).to_pylist(), strict=True):
        slot = (row["slot"] - START) // timedelta(microseconds=1) + round(START.timestamp() * 1e6)
        values = [row["carrier"], row["flight"], slot, row["gain"] if row["gain"] == row["gain"] else None]
        assert written == text(values)
        assert json.loads(written) == values


def test_a_column_has_a_plain_type_whatever_it_came_as() -> None:
    odd = pa.table(
        {"s": pa.array(["a"]).dictionary_encode(), "n": pa.array([1], pa.int8()), "t": pa.array([START], pa.timestamp("ms", "UTC"))}
    )
    assert [column(odd, name, "odd").type for name in ("s", "n", "t")] == [pa.string(), pa.int64(), TIME]


def test_private_columns_are_not_proposed() -> None:
    with pytest.raises(DataError, match=r"events has no such column \(got 'known_at'\)\. Fix: (?!.*_known_at)"):
        column(table([]), "known_at", "events")


def test_integers_close_together_are_coded_as_any_others() -> None:
    values = [7, None, -3, 7, 5, -3, 2**40]
    for near in (values[:6], values):  # far apart the last one leaves no room for a table of all numbers between
        codes, distinct = encode(pa.table({"n": pa.array(near, pa.int64())}), ["n"], "t")
        wanted = sorted({value for value in near if value is not None})
        assert distinct.column("n").to_pylist() == wanted
        assert codes.tolist() == [-1 if value is None else wanted.index(value) for value in near]


def test_two_columns_are_one_code_each_pair() -> None:
    table = pa.table({"a": pa.array([1, 2, 1, None, 2]), "b": pa.array(["x", "x", "y", "x", "x"])})
    codes, distinct = encode(table, ["a", "b"], "t")
    assert distinct.to_pylist() == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}]
    assert codes.tolist() == [0, 2, 1, -1, 2]


def test_words_that_several_threads_saw_have_one_code() -> None:
    count = 3 * THREADED_ROWS
    numbers = np.random.default_rng(7).integers(0, 500, count)
    words = pa.array([None if number == 0 else f"e{number}" for number in numbers.tolist()])
    later = pa.concat_arrays([words, pa.array(["only here", None])])
    codes, distinct = encode(pa.table({"s": later}), ["s"], "t")
    listed = distinct.column("s").to_pylist()
    assert listed == sorted(set(later.to_pylist()) - {None})
    assert [None if code < 0 else listed[code] for code in codes.tolist()] == later.to_pylist()
    found, present = lookup(distinct, pa.table({"s": later}), "t")
    assert np.array_equal(found, codes)
    assert np.array_equal(present, codes >= 0)


def test_a_column_without_any_value_has_no_codes() -> None:
    nothing = pa.table({"s": pa.array([None, None], pa.string()), "n": pa.array([None, None], pa.int64())})
    for names in (["s"], ["n"], ["s", "n"]):
        codes, distinct = encode(nothing, names, "t")
        assert (codes.tolist(), distinct.num_rows) == ([-1, -1], 0)
        assert lookup(distinct, nothing, "t")[0].tolist() == [-1, -1]


def test_whole_numbers_that_lie_close_together_are_found_like_others() -> None:
    known = pa.table({"n": pa.array([5, -3, 9, 4], pa.int64())})
    _, distinct = encode(known, ["n"], "known")
    asked = [5, None, -3, -4, 10, 4, 9, 6, 2**63 - 1, -(2**63)]
    found, present = lookup(distinct, pa.table({"n": pa.array(asked, pa.int64())}), "asked")
    rows = distinct.column("n").to_pylist()
    assert found.tolist() == [rows.index(value) if value in rows else -1 for value in asked]
    assert present.tolist() == [value is not None for value in asked]
