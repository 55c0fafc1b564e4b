"""Fields of a request: what fits a type and what does not; the gateway's tests show each over HTTP."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.serve.asgi import Refused
from bedplate.serve.fields import MAX_SHOWN, Field, Fields, plain, shown

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "timestamp": st.datetimes(min_value=datetime(1900, 1, 1)).map(lambda at: at.isoformat() + "Z"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_a_type_fit_it(kind: str) -> None:
    @given(VALUES[kind])
    def check(value: Any) -> None:
        Fields((Field("x", kind),)).check({"x": value})

    check()


@pytest.mark.parametrize(
    ("kind", "other"), [("string", 1), ("int", 1.5), ("float", "1"), ("bool", 0), ("timestamp", "soon"), ("int", True)]
)
def test_values_of_another_type_do_not(kind: str, other: Any) -> None:
    with pytest.raises(Refused, match=f"the field 'x' is no {kind}") as caught:
        Fields((Field("x", kind),)).check({"x": other})
    assert (caught.value.status, caught.value.value) == (422, shown(other))


def test_a_field_may_be_absent_only_where_it_may_be_null() -> None:
    Fields((Field("x", "int", required=False),)).check({})
    with pytest.raises(Refused, match="the request lacks a field"):
        Fields((Field("x", "int"),)).check({"x": None})
    with pytest.raises(Refused, match="unknown field") as caught:
        Fields((Field("price", "int", required=False),)).check({"prize": 1})
    assert "'price'" in caught.value.fix


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, None),
        (numpy.float32(2.5), 2.5),
        (numpy.int64(3), 3),
        (datetime(2013, 1, 2, tzinfo=UTC), "2013-01-02T00:00:00+00:00"),
        ("text", "text"),
        (None, None),
    ],
)
def test_values_become_what_json_can_hold(value: Any, told: Any) -> None:
    assert plain(value) == told


def test_what_an_error_repeats_is_short_and_never_a_structure() -> None:
    assert shown({"password": "secret"}) == "dict"
    assert len(shown("x" * 1000)) == MAX_SHOWN + 1
