"""The language of promotion rules: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import math
import operator
from types import SimpleNamespace

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


@settings(deadline=None)
@given(left=FINITE, right=FINITE, factor=FINITE, symbol=st.sampled_from(sorted(OPERATORS)))
def test_a_comparison_agrees_with_pythons_own(left: float, right: float, factor: float, symbol: str) -> None:
    verdict, compared = judge(parse(f"a {symbol} b * {factor!r} - 1"), Metrics({"a": left, "b": right}, None))
    assert verdict == OPERATORS[symbol](left, right * factor - 1)
    assert (compared[0].left, compared[0].right) == (left, right * factor - 1)


@settings(deadline=None)
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


SLICED = Metrics(
    {"rmse": 15.0, "latency_p99_s": 0.04, "size_bytes": 1e8},
    {"rmse": 16.0},
    {"carrier": {"AA": {"rmse": 14.0}, "9E": {"rmse": 18.5}}},
    {"carrier": {"AA": {"rmse": 15.0}, "9E": {"rmse": 17.0}}},
    {"psi(dep_delay)": 0.3, "ks(carrier)": 0.01},
)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("max(slice.carrier.rmse) <= 20", True),
        ("gap(slice.carrier.rmse) <= 3", False),
        ("max(slice.carrier.rmse) <= max(production.slice.carrier.rmse) * 1.1", True),
        ('slice.carrier["9E"].rmse < production.slice.carrier["9E"].rmse', False),
        ("latency_p99_s <= 0.05 and size_bytes <= 2e8", True),
        ("drift.psi(dep_delay) <= 0.2", False),
        ("drift.psi(dep_delay) <= 0.2 or drift.ks(carrier) < 0.05", True),
    ],
)
def test_slices_budgets_and_drifts_are_numbers_like_others(text: str, truth: bool) -> None:
    assert judge(parse(text), SLICED)[0] is truth


def test_a_drift_from_an_absent_production_holds() -> None:
    first = Metrics(SLICED.candidate, None, SLICED.slices)
    holds_, [compared] = judge(parse("drift.psi(dep_delay) <= 0.2"), first)
    assert holds_ and "no production version yet" in compared.note


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("max(slice.origin.rmse) < 3", "the candidate has no such slice (got 'origin'). Fix: known: carrier"),
        ("max(slice.carrier.rsme) < 3", "the candidate has no such slice (got 'rsme'). Fix: did you mean 'rmse'?"),
        ("drift.psi(dep_delais) < 3", "the candidate has no such drift (got 'psi(dep_delais)'). Fix: did you mean 'psi(dep_delay)'"),
        ("production.rsme < 3", "production has no such metric (got 'rsme'). Fix: did you mean 'rmse'?"),
    ],
)
def test_what_was_not_measured_is_named_with_the_nearest(text: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        judge(parse(text), SLICED)
    assert what in caught.value.one_line()


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ("rmse < production.rmse with 95% confidence", 0.95),
        ("rmse<=production.rmse  with 99.9 % confidence  ", 0.999),
        ("max(slice.carrier.rmse) < 20 with 80% confidence", 0.8),
        ("rmse < production.rmse", None),
    ],
)
def test_confidence_is_read_from_the_end(text: str, confidence: float | None) -> None:
    found = parse(text).confidence
    assert found is None if confidence is None else found == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rmse < 3 and mae < 2 with 95% confidence", "confidence is of one comparison"),
        ("not rmse < 3 with 95% confidence", "confidence is of one comparison"),
        ("1 < rmse < 3 with 95% confidence", "confidence is of one comparison"),
        ("rmse == 3 with 95% confidence", "confidence is of one comparison"),
        ("rmse < 3 with 40% confidence", "from 50 to below 100 percent"),
        ("latency_p99_s < 3 with 95% confidence", "computed from rows"),
        ("drift.psi(x) < 3 with 95% confidence", "computed from rows"),
        ("2 < 3 with 95% confidence", "computed from rows"),
        ("rmse < 3 with 200% confidence", "not an expression"),
        ("rmse < 3 with confidence", "not an expression"),
    ],
)
def test_a_confidence_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("slice.carrier.rmse < 3", "write max(slice.GROUP.METRIC)"),
        ("max(rmse) < 3", "write max(slice.GROUP.METRIC), for example max(slice.carrier.rmse)"),
        ("sum(slice.carrier.rmse) < 3", "use max, min, mean, gap of slice.GROUP.METRIC"),
        ("drift.psi(a, b) < 3", "write drift.psi or drift.ks of one column"),
    ],
)
def test_what_is_almost_right_is_told_how_it_is_written(text: str, fix: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert fix in caught.value.one_line()


NAMES = st.sampled_from(["rmse", "mae", "production.rmse", "max(slice.carrier.rmse)", "drift.psi(x)", "latency_p99_s", "1.5", "0", "1e9"])
SIDES = st.recursive(NAMES, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner), max_leaves=6)
PAIRS = st.builds("{} {} {}".format, SIDES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), SIDES)
RULES = st.recursive(PAIRS, lambda inner: st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner), max_leaves=4)


@settings(deadline=None)
@given(RULES)
def test_every_rule_of_the_grammar_is_read_and_judged_whatever_production_is(text: str) -> None:
    for production in ({"rmse": 2.0}, None):
        known = Metrics(
            {"rmse": 1.0, "mae": 3.0, "latency_p99_s": 0.1}, production, {"carrier": {"AA": {"rmse": 4.0}}}, {}, {"psi(x)": 0.2}
        )
        truth, compared = judge(parse(text), known)
        assert isinstance(truth, bool) and compared


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_one_clear_error(text: str) -> None:
    try:
        parse(text)
    except SpecError as error:
        assert error.fix


NUMBERS = {"rmse": 1.5, "mae": -2.0, "zero": 0.0}
BEFORE = {"rmse": 2.5, "mae": 4.0}
TERMS = st.sampled_from(["rmse", "mae", "zero", "production.rmse", "production.mae", "2", "0.5"])
EXACT = st.recursive(TERMS, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner), max_leaves=3)
CHAINS = st.builds("{} {} {} {} {}".format, EXACT, st.sampled_from(["<", "<=", "!="]), EXACT, st.sampled_from([">", ">=", "=="]), EXACT)
TREES = st.recursive(
    CHAINS,
    lambda inner: (
        st.builds("({}) and ({})".format, inner, inner)
        | st.builds("({}) or ({})".format, inner, inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(TREES)
def test_a_rule_means_what_it_means_in_python(text: str) -> None:
    expected = eval(text, {"production": SimpleNamespace(**BEFORE)}, NUMBERS)
    assert judge(parse(text), Metrics(NUMBERS, BEFORE))[0] is expected
