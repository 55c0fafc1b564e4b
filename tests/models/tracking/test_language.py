"""MLflow's expression language: what it reads, what it refuses, and that both evaluators agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.models.tracking.language import (
    EXPERIMENTS,
    VERSIONS,
    Comparison,
    Order,
    like,
    matches,
    ordered,
    parse_filter,
    parse_orders,
)
from bedplate.models.tracking.refusal import Refused


@pytest.mark.parametrize(
    ("text", "comparison"),
    [
        ("metrics.rmse < 1", Comparison("metrics", "rmse", "<", 1)),
        ("metric.`a b/c` >= -1.5e-3", Comparison("metrics", "a b/c", ">=", -0.0015)),
        ('metrics."val loss"!=.5', Comparison("metrics", "val loss", "!=", 0.5)),
        ("params.x = 'a'", Comparison("params", "x", "=", "a")),
        ('parameter.x = "it\'s"', Comparison("params", "x", "=", "it's")),
        ("tags.mlflow.parentRunId = 'abc'", Comparison("tags", "mlflow.parentRunId", "=", "abc")),
        ("tag.`y.z` ILIKE '%a_'", Comparison("tags", "y.z", "ILIKE", "%a_")),
        ("tags.x IS NOT NULL", Comparison("tags", "x", "IS NOT NULL", None)),
        ("params.x is null", Comparison("params", "x", "IS NULL", None)),
        ("attributes.status != 'FINISHED'", Comparison("attributes", "status", "!=", "FINISHED")),
        ("run_name LIKE 'x%'", Comparison("attributes", "run_name", "LIKE", "x%")),
        ("Created > 5", Comparison("attributes", "start_time", ">", 5)),
        ("run.run_id IN ('a', 'b')", Comparison("attributes", "run_id", "IN", ("a", "b"))),
        ("attribute.run_id not in ('a')", Comparison("attributes", "run_id", "NOT IN", ("a",))),
        ("datasets.name = 'flights'", Comparison("datasets", "name", "=", "flights")),
    ],
)
def test_comparisons(text: str, comparison: Comparison) -> None:
    assert parse_filter(text) == (comparison,)


def test_numbers_of_any_length_are_compared() -> None:
    (longest,) = parse_filter(f"metrics.rmse < {'9' * 5000}")
    assert longest.value == float("inf")
    (exact,) = parse_filter("attributes.start_time <= 1700000000123")
    assert exact.value == 1700000000123
    assert isinstance(exact.value, int)


def test_several_are_joined_by_and() -> None:
    found = parse_filter("metrics.a > 1 AND params.b = 'x and y' and start_time <= 3")
    assert [each.key for each in found] == ["a", "b", "start_time"]
    assert found[1].value == "x and y"
    assert parse_filter("  ") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metrics.a < 'x'", "Expected numeric value"),
        ("metrics.a LIKE 'x'", "Invalid comparator 'LIKE'"),
        ("params.a > 'x'", "Invalid comparator '>'"),
        ("params.a = 1", "Expected a quoted string value"),
        ("foo.a = 1", "Invalid entity type 'foo'"),
        ("foo = 'x'", "Invalid attribute key 'foo'"),
        ("metrics.a <", "a value is missing"),
        ("metrics.a", "a comparison operator is missing"),
        ("metrics.a < 1 or metrics.b < 2", "expected 'and' instead of 'or'"),
        ("metrics.a < 1 and", "nothing follows"),
        ("(metrics.a < 1)", "a column is missing"),
        ("run_id IN ()", "list of texts"),
        ("run_id IN 'a'", "list of texts"),
        ("tags.a = 'x", "cannot read"),
        ("metrics.a IS NULL", "is for params and tags"),
        ("metrics.a < 1; DROP TABLE runs", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_filter(text)
    assert refused.value.code == "INVALID_PARAMETER_VALUE"
    assert said in refused.value.message
    assert text in refused.value.message


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_filter(text)
    except Refused as refused:
        assert refused.status == 400


def test_orders() -> None:
    assert parse_orders(["metrics.`a b` DESC", "start_time", "params.x asc"]) == (
        Order("metrics", "a b", False),
        Order("attributes", "start_time", True),
        Order("params", "x", True),
    )
    assert parse_orders(["name"], EXPERIMENTS) == (Order("attributes", "name", True),)
    for wrong in ("metrics.a UPWARDS", "", "start_time DESC DESC", "nothing"):
        with pytest.raises(Refused):
            parse_orders([wrong])


def test_patterns_are_of_the_whole_text() -> None:
    assert like("a%", ignore_case=False).fullmatch("abc")
    assert not like("a%", ignore_case=False).fullmatch("Abc")
    assert like("A_c", ignore_case=True).fullmatch("abc")
    assert not like("a.c", ignore_case=True).fullmatch("abc")


def test_what_is_not_there_matches_nothing_but_null() -> None:
    values = {"tags": {"a": "x"}, "attributes": {"version": "3", "version_number": 3}}
    assert matches(parse_filter("tags.a = 'x' and tags.b IS NULL and tags.a IS NOT NULL"), values)
    for text in ("tags.b = 'x'", "tags.b != 'x'", "tags.a IS NULL", "metrics.m < 1", "tags.a LIKE 'y%'"):
        assert not matches(parse_filter(text), values), text
    assert matches(parse_filter("version_number >= 3 and version = '3'", VERSIONS), values)


def test_the_order_of_things_with_gaps() -> None:
    things = [{"n": 2}, {}, {"n": 1}, {"n": 3}]

    def values(thing: dict[str, int]) -> dict[str, dict[str, int]]:
        return {"metrics": thing}

    up, down = (ordered(things, parse_orders([f"metrics.n {way}"]), values) for way in ("ASC", "DESC"))
    assert up == [{"n": 1}, {"n": 2}, {"n": 3}, {}]
    assert down == [{"n": 3}, {"n": 2}, {"n": 1}, {}]
