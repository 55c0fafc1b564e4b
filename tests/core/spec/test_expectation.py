"""Expectations: one rule each, what it is called, and mistakes that are told."""

from __future__ import annotations

import datetime

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Dataset, Expectation


@pytest.mark.parametrize(
    ("values", "rule", "label", "columns"),
    [
        ({"not_null": "id"}, "not_null", "id not null", ("id",)),
        ({"not_null": ["id", "at"], "otherwise": "quarantine"}, "not_null", "id, at not null", ("id", "at")),
        ({"range": {"column": "delay", "min": -120}}, "range", "delay in -120..", ("delay",)),
        ({"range": {"column": "at", "max": datetime.date(2024, 1, 31)}}, "range", "at in ..2024-01-31", ("at",)),
        ({"unique": ["id", "at"]}, "unique", "id, at unique", ("id", "at")),
        ({"freshness": "2h", "otherwise": "warn"}, "freshness", "newest within 2h", ()),
        ({"rows": {"min": 1, "max": 10}}, "rows", "1..10 rows", ()),
        ({"sql": "a >\n  b"}, "sql", "a > b", ()),
        ({"sql": "a > b", "name": "ordered"}, "sql", "ordered", ()),
    ],
)
def test_a_rule_says_what_it_is_about(values: dict[str, object], rule: str, label: str, columns: tuple[str, ...]) -> None:
    made = Expectation.model_validate(values)
    assert (made.rule, made.label, made.columns) == (rule, label, columns)
    assert made.of_rows == (rule in ("not_null", "range", "sql"))
    assert made.otherwise == values.get("otherwise", "stop")
    assert Expectation.model_validate(made.model_dump(mode="json")) == made


def test_a_long_predicate_is_called_by_its_beginning() -> None:
    assert Expectation(sql="x = 1 OR " * 20 + "y").label == ("x = 1 OR " * 20)[:59] + "…"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give exactly one of not_null, range, unique, freshness, rows, sql, not none"),
        ({"not_null": "id", "unique": "id"}, "not not_null and unique"),
        ({"unique": "id", "otherwise": "quarantine"}, "`unique` is about the whole table"),
        ({"rows": {"min": 1}, "otherwise": "quarantine"}, "use `otherwise: warn` or `stop`"),
        ({"range": {"column": "a"}}, "give `min`, `max` or both"),
        ({"range": {"column": "a", "min": 2, "max": 1}}, "`min` is above `max`"),
        ({"range": {"column": "a", "min": 2, "max": "x"}}, "one bound is a number and the other is text"),
        ({"rows": {}}, "give `min`, `max` or both"),
        ({"rows": {"min": 3, "max": 2}}, "`min` is above `max`"),
        ({"freshness": "soon"}, "not a duration"),
        ({"not_null": "a b"}, "String should match pattern"),
        ({"sql": "a", "otherwise": "ignore"}, "Input should be 'warn', 'quarantine' or 'stop'"),
    ],
)
def test_what_is_no_rule(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")):
        Expectation.model_validate(values)


def test_two_rules_of_a_dataset_have_two_names() -> None:
    twice = [{"not_null": "id"}, {"not_null": ["id"], "otherwise": "warn"}]
    with pytest.raises(ValidationError, match="two expectations are called 'id not null': give one a `name`"):
        Dataset.model_validate({"source": "a.csv", "expect": twice})
    assert len(Dataset.model_validate({"source": "a.csv", "expect": [twice[0], {**twice[1], "name": "ids"}]}).expect) == 2
