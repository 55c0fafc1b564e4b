"""The language of promotion rules: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import SpecError
from bedplate.models.expression import MAX_CHARS, Metrics, judge, parse

CANDIDATE = {"rmse": 15.0, "baseline_rmse": 38.0, "mae": 9.0, "nothing": math.nan, "zero": 0.0, "endless": math.inf}
PRODUCTION = {"rmse": 16.0, "mae": 8.0}


def holds(text: str, production: dict[str, float] | None = PRODUCTION) -> bool:
    return judge(parse(text), Metrics(CANDIDATE, production))[0]


@pytest.mark.parametrize(
    "text",
    [
        "rmse <= baseline_rmse * 0.95",
        "rmse <= production.rmse * 1.01",
        "(rmse + mae) / 2 < 13",
        "10 < rmse <= 15 < 20",
        "-rmse > -production.rmse",
        "+rmse - -mae == 24",
        "rmse < 1 or mae < 10 and rmse != 3",
        "not (rmse > 20 or mae >= 10)",
        "  rmse < 20  ",
        "rmse < 2e1",
        "rmse < endless",
        "(rmse\n < 20)",
    ],
)
def test_what_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text", ["rmse < 15", "10 < rmse < 14 < 20", "10 > rmse < 20", "not rmse < 20", "rmse < 20 and mae > 10", "mae < production.mae"]
)
def test_what_does_not_hold(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("rmse", "'rmse'"),
        ("rmse + 1", "'rmse + 1'"),
        ("True", "'True'"),
        ("rmse < True", "'True'"),
        ("rmse < 'low'", "\"'low'\""),
        ("rmse < 1j", "'1j'"),
        ("rmse < max(mae, 3)", "'max(mae, 3)'"),
        ("__import__('os').system('true') < 1", "__import__"),
        ("rmse ** 2 < 4", "'rmse ** 2'"),
        ("rmse // 2 < 4", "'rmse // 2'"),
        ("rmse[0] < 4", "'rmse[0]'"),
        ("rmse in (1, 2)", "'rmse in (1, 2)'"),
        ("rmse is mae", "'rmse is mae'"),
        ("baseline.rmse < 3", "'baseline.rmse'"),
        ("production.rmse.mean < 3", "'production.rmse.mean'"),
        ("production < 3", "'production'"),
        ("(rmse < 3) + 1 < 2", "'rmse < 3'"),
        ("rmse < 3 and mae", "'mae'"),
        ("not rmse", "'rmse'"),
        ("~rmse < 3", "'~rmse'"),
        ("(lambda: 1)() < 3", "lambda"),
        ("rmse < (x := 3)", "x := 3"),
        ("rmse < 1e999", "'1e999'"),
    ],
)
def test_what_is_refused_shows_the_piece_and_a_fix(text: str, piece: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert piece in caught.value.what
    assert caught.value.value == text
    assert caught.value.fix
    assert caught.value.field == "promote.when"


@pytest.mark.parametrize("text", ["", "rmse <", "rmse <= = 3", "rmse < 3; mae < 3", "rmse = 3", "(" * 400, "rmse < 3 # fine\nx", "\0"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="Fix: write a comparison"):
        parse(text)


@pytest.mark.parametrize("text", ["rmse < " + "-" * 480 + "1", "not " * 120 + "rmse < 1"])
def test_deep_rules_are_judged(text: str) -> None:
    assert not holds(text)


def test_a_long_rule_is_refused() -> None:
    with pytest.raises(SpecError, match="too long"):
        parse("rmse < 1" + " " * MAX_CHARS)


@pytest.mark.parametrize(
    ("text", "nearest"), [("rsme < 3", "'rmse'"), ("rmse < production.mea", "'mae'"), ("rmse < 99 or typo < 1", "known:")]
)
def test_an_unknown_metric_names_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(SpecError) as caught:
        holds(text)
    assert nearest in str(caught.value.fix)


def test_an_unknown_metric_of_the_candidate_is_an_error_also_without_production() -> None:
    with pytest.raises(SpecError, match="the candidate has no such metric"):
        holds("rsme <= production.rmse", production=None)


@pytest.mark.parametrize(
    "text",
    [
        "rmse <= production.rmse * 1.01",
        "rmse > production.anything",
        "not rmse <= production.rmse",
        "not (mae < 1 or not production.rmse > 3)",
        "mae < 10 and 0 < rmse < production.rmse",
    ],
)
def test_a_comparison_with_an_absent_production_holds(text: str) -> None:
    assert holds(text, production=None)


def test_an_absent_production_does_not_excuse_the_other_comparisons() -> None:
    assert not holds("rmse <= production.rmse and mae < 1", production=None)
    assert not holds("20 < rmse < production.rmse", production=None)


@pytest.mark.parametrize(
    "text",
    [
        "nothing < 3",
        "nothing != nothing",
        "not nothing > 3",
        "rmse / zero > 1",
        "endless - endless == 0",
        "nothing * 0 <= 1",
        "nothing <= production.rmse",
    ],
)
@pytest.mark.parametrize("production", [PRODUCTION, None])
def test_what_is_not_a_number_never_holds(text: str, production: dict[str, float] | None) -> None:
    verdict, compared = judge(parse(text), Metrics(CANDIDATE, production))
    assert not verdict
    assert "not a number" in compared[0].note


def test_a_production_metric_that_is_not_a_number_never_holds() -> None:
    verdict, compared = judge(parse("rmse <= production.rmse"), Metrics(CANDIDATE, {"rmse": math.nan}))
    assert not verdict
    assert compared[0].note.startswith("production.rmse is not a number")


OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
FINITE = st.floats(-1e6, 1e6)


@given(left=FINITE, right=FINITE, factor=FINITE, symbol=st.sampled_from(sorted(OPERATORS)))
def test_a_comparison_agrees_with_pythons_own(left: float, right: float, factor: float, symbol: str) -> None:
    verdict, compared = judge(parse(f"a {symbol} b * {factor!r} - 1"), Metrics({"a": left, "b": right}, None))
    assert verdict == OPERATORS[symbol](left, right * factor - 1)
    assert (compared[0].left, compared[0].right) == (left, right * factor - 1)


@given(a=st.booleans(), b=st.booleans(), c=st.booleans())
def test_and_or_not_agree_with_pythons_own(a: bool, b: bool, c: bool) -> None:
    metrics = Metrics({"a": float(a), "b": float(b), "c": float(c)}, None)
    assert judge(parse("a > 0 or b > 0 and not c > 0"), metrics)[0] == (a or (b and not c))


@settings(max_examples=50)
@given(st.text(max_size=80))
def test_any_text_is_a_rule_or_a_spec_error(text: str) -> None:
    try:
        parse(text)
    except SpecError as error:
        assert error.fix
