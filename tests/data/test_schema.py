"""Which values fit which type, whether they are read column-wise or one by one, and what is said of those that do not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.schema import ARROW, QUARANTINE, SYSTEM, Parsed, Shape, decoded, infer_text, need_columns, parse_text, split

BAD = "bad"
AT = datetime(2013, 1, 1, 10, 0, tzinfo=UTC)


def text(*values: str | None) -> pa.Array[Any]:
    return pa.array(values, pa.string())


def read(kind: ColumnType, *values: str | None) -> list[object]:
    """The values, with BAD in the place of one that does not fit."""
    parsed = parse_text(text(*values), kind)
    assert parsed.values.type == ARROW[kind]
    bad = parsed.bad if parsed.bad is not None else np.zeros(len(values), dtype=np.bool_)
    return [BAD if wrong else value for value, wrong in zip(parsed.values.to_pylist(), bad, strict=True)]


CASES: list[tuple[ColumnType, str, object]] = [
    ("int", "0", 0),
    ("int", "-12", -12),
    ("int", "+5", 5),
    ("int", "9223372036854775807", 9223372036854775807),
    ("int", "-9223372036854775808", -9223372036854775808),
    ("int", "9223372036854775808", BAD),
    ("int", "3.0", 3),
    ("int", "1e3", 1000),
    ("int", "3.5", BAD),
    ("int", "9007199254740993.0", BAD),
    ("int", "0x10", BAD),
    ("int", "1_000", BAD),
    ("int", "", BAD),
    ("int", "nan", None),
    ("float", "1", 1.0),
    ("float", "-1.5e-3", -0.0015),
    ("float", ".5", 0.5),
    ("float", "NaN", None),
    ("float", "inf", BAD),
    ("float", "1e999", BAD),
    ("float", "1,5", BAD),
    ("float", "1_0", BAD),
    ("bool", "true", True),
    ("bool", "False", False),
    ("bool", "1", BAD),
    ("bool", "yes", BAD),
    ("string", "", ""),
    ("string", "ü\n", "ü\n"),
    ("timestamp", "2013-01-01T10:00:00Z", AT),
    ("timestamp", "2013-01-01 10:00:00", AT),
    ("timestamp", "2013-01-01T05:00:00-05:00", AT),
    ("timestamp", "2013-01-01T10:00:00.123456Z", AT.replace(microsecond=123456)),
    ("timestamp", "2013-01-01T10:00:00.123456789Z", AT.replace(microsecond=123456)),
    ("timestamp", "2013-01-01", AT.replace(hour=0)),
    ("timestamp", "2013-02-30", BAD),
    ("timestamp", "1357034400", BAD),
    ("timestamp", "10:00", BAD),
    ("timestamp", "0001-01-01T00:00:00+14:00", BAD),
]


@pytest.mark.parametrize(("kind", "value", "expected"), CASES)
def test_a_value_fits_or_not_whatever_stands_beside_it(kind: ColumnType, value: str, expected: object) -> None:
    assert read(kind, value) == [expected], "alone, where the quick path may read it"
    if kind != "string":
        assert read(kind, value, "nothing that fits", None) == [expected, BAD, None], "beside one that forces the slow path"


@given(st.lists(st.one_of(st.none(), st.integers(-(2**70), 2**70).map(str), st.floats().map(repr), st.text(max_size=4)), max_size=8))
def test_reading_a_column_at_once_and_value_by_value_agree(values: list[str | None]) -> None:
    for kind in ARROW:
        together = read(kind, *values)
        apart = [read(kind, value)[0] for value in values]
        assert together == apart, kind


@given(st.lists(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)), min_size=1, max_size=5))
def test_any_instant_comes_back(moments: list[datetime]) -> None:
    expected = [moment.replace(tzinfo=UTC) for moment in moments]
    assert read("timestamp", *[moment.isoformat() + "Z" for moment in moments]) == expected
    assert read("timestamp", *[moment.isoformat(" ") for moment in moments]) == expected


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("1", None, "-2"), "int"),
        (("1", "2.5"), "float"),
        (("1.0", "2.0"), "float"),
        (("true", "false"), "bool"),
        (("2013-01-01T10:00:00", "2013-01-02"), "timestamp"),
        (("20130101", "99999999999999999999"), "float"),
        (("1", "x"), "string"),
        ((None, None), "string"),
        ((), "string"),
    ],
)
def test_types_are_inferred_from_all_values(values: tuple[str | None, ...], kind: str) -> None:
    assert infer_text(text(*values)) == kind


def system(count: int) -> pa.Table:
    return pa.table({"_arrived_at": [0] * count, "_partition": [1] * count, "_offset": range(100, 100 + count)}, schema=SYSTEM)


def test_rows_are_split_with_the_first_reason_in_the_order_of_the_columns() -> None:
    shape = Shape("t", {"name": "string", "age": "int", "height": "float"}, ("name", "age"))
    columns = {"name": text("a", None, "c", "d"), "age": text("1", "x", "3", "4"), "height": text("1.5", "2", "tall" * 50, None)}
    parsed = {name: parse_text(columns[name], kind) for name, kind in shape.columns.items()}
    batch = split(shape, parsed, system(4), lambda chosen: [b"raw %d" % row for row in chosen])
    assert batch.good.schema == shape.arrow
    good = [(row["name"], row["age"], row["height"], row["_offset"]) for row in batch.good.to_pylist()]
    assert good == [("a", 1, 1.5, 100), ("d", 4, None, 103)]
    assert batch.bad.schema == QUARANTINE
    null, tall = batch.bad.to_pylist()
    assert (null["_offset"], null["_partition"], null["problem"], null["raw"]) == (101, 1, "name: null in a key", b"raw 1")
    assert (tall["problem"], tall["raw"]) == ("height: not a float", b"raw 2")
    assert tall["reason"].startswith("height: not a float (got 'talltall")
    assert len(tall["reason"]) < 120


@given(st.lists(st.tuples(st.sampled_from(["1", "x", None]), st.sampled_from(["1.5", "y", None])), max_size=12))
def test_every_row_is_on_one_side(pairs: list[tuple[str | None, str | None]]) -> None:
    shape = Shape("t", {"a": "int", "b": "float"}, ("a",))
    parsed: dict[str, Parsed] = {
        name: parse_text(text(*[pair[index] for pair in pairs]), kind) for index, (name, kind) in enumerate(shape.columns.items())
    }
    batch = split(shape, parsed, system(len(pairs)), lambda chosen: [b""] * len(chosen))
    good = {number - 100 for number in batch.good["_offset"].to_pylist()}
    bad = {number - 100 for number in batch.bad["_offset"].to_pylist()}
    assert good == {index for index, (a, b) in enumerate(pairs) if a == "1" and b != "y"}
    assert good | bad == set(range(len(pairs)))
    assert not good & bad


def test_bytes_that_are_no_text_are_told_from_null() -> None:
    found, wrong = decoded(pa.array([b"a", b"\xff", None]))
    assert (found.to_pylist(), wrong.tolist() if wrong is not None else None) == (["a", None, None], [False, True, False])
    assert decoded(pa.array([b"a", None]))[1] is None


@pytest.mark.parametrize(
    ("columns", "key", "message"),
    [
        ({"carrier": "string"}, ("carier",), "did you mean 'carrier'"),
        ({"_offset": "int"}, (), "reserved"),
        ({"_known_at": "timestamp"}, (), "reserved"),
        ({"a": "int", "A": "int"}, (), "case only"),
    ],
)
def test_a_shape_that_no_table_can_have_is_refused(columns: dict[str, ColumnType], key: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Shape("t", columns, key)


def test_a_declared_column_that_is_missing_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"table 'weather' declares a column that w\.csv does not have.*'visib'.*did you mean 'visibility'"):
        need_columns(Shape("weather", {"origin": "string", "visib": "float"}), ["origin", "visibility"], "w.csv")
