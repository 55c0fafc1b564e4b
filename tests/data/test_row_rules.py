"""Rules about rows: which rows of a batch break them, null as in a CHECK constraint, and predicates that are none."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.core.spec import Expectation
from bedplate.data.row_rules import broken_rows, problem_of, set_apart
from bedplate.data.schema import INSTANT


def batch(**columns: Any) -> pa.Table:
    count = len(next(iter(columns.values())))
    return pa.table({**columns, "_offset": pa.array(range(100, 100 + count), pa.int64())})


def broken(rows: pa.Table, *rules: dict[str, Any]) -> list[list[int]]:
    made = [Expectation.model_validate(rule) for rule in rules]
    return [flags.nonzero()[0].tolist() for _, flags in broken_rows("things", rows, made)]


def test_each_rule_finds_its_rows_and_null_breaks_not_null_only() -> None:
    at = pa.array([0, 86_400_000_000, None], INSTANT)
    rows = batch(a=[1, None, 3], b=[None, 5.0, 3.0], at=at, text=["x", "y'", None])
    assert broken(
        rows,
        {"not_null": "a"},
        {"not_null": ["a", "b"]},
        {"range": {"column": "a", "min": 2}},
        {"range": {"column": "b", "max": 3.0}},
        {"range": {"column": "at", "max": "1970-01-01"}},
        {"range": {"column": "text", "min": "x", "max": "y"}},
        {"sql": "a < b -- the rest is a comment"},
        {"sql": "text LIKE '%''' OR a IS NULL"},
    ) == [[1], [0, 1], [0], [1], [1], [1], [2], [0]]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("a > avg(a)", "WHERE clause cannot contain aggregates"),
        ("row_number() OVER () > 1", "WHERE clause cannot contain window functions"),
        ("amuont > 1", "known: _offset, a"),
        ("a >", "syntax error"),
        ("a LIKE 1 ELSE", "syntax error"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd')) > 1", "disabled"),
    ],
)
def test_a_predicate_that_is_none_is_told(sql: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        broken(batch(a=[1, 2]), {"sql": sql, "name": "mine"})
    assert caught.value.what.startswith("expectation 'mine' of dataset 'things': ")
    assert caught.value.value == sql


@settings(max_examples=15)
@given(st.lists(st.one_of(st.none(), st.integers(-50, 50)), min_size=1, max_size=60), st.integers(-50, 0), st.integers(0, 50))
def test_a_range_parts_rows_as_a_loop_would(values: list[int | None], least: int, most: int) -> None:
    rows = batch(a=pa.array(values, pa.int64()))
    expected = [row for row, value in enumerate(values) if value is not None and not least <= value <= most]
    assert broken(rows, {"range": {"column": "a", "min": least, "max": most}}) == [expected]


def test_only_rules_that_quarantine_set_rows_apart() -> None:
    rules = [Expectation(not_null=("a",), otherwise=otherwise) for otherwise in ("warn", "quarantine", "stop")]
    assert set_apart(rules) == (rules[1],)
    assert problem_of(rules[1]) == "expected a not null"
