"""The gate's decision: what is promoted, and whether the reasons are readable."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.digest import canonical
from bedplate.core.errors import SpecError
from bedplate.core.spec import Promote
from bedplate.models.gate import Check, Decision
from bedplate.models.gate import decide as decide_grades
from bedplate.models.grades import Grades, grades

RULES = Promote(when=("rmse <= baseline_rmse * 0.95", "rmse  <=  production.rmse * 1.01"))


def decide(promote: Promote, candidate: dict[str, float], production: dict[str, float] | None) -> Decision:
    """A decision on metrics alone."""
    return decide_grades(promote, Grades(candidate), Grades(production) if production is not None else None)


def test_a_better_candidate_is_promoted_with_both_sides_of_every_rule() -> None:
    decision = decide(RULES, {"rmse": 15.0, "baseline_rmse": 40.0}, {"rmse": 16.0, "baseline_rmse": 40.0})
    assert decision.promoted
    assert [(check.holds, check.left, check.right) for check in decision.checks] == [(True, 15.0, 38.0), (True, 15.0, 16.16)]
    assert decision.why == (
        "promoted: rmse <= baseline_rmse * 0.95 holds (15 against 38); rmse <= production.rmse * 1.01 holds (15 against 16.16)"
    )


def test_a_worse_candidate_is_not_and_only_what_failed_is_the_reason() -> None:
    decision = decide(RULES, {"rmse": 17.0, "baseline_rmse": 40.0}, {"rmse": 16.0})
    assert not decision.promoted
    assert decision.why == "not promoted: rmse <= production.rmse * 1.01 does not hold (17 against 16.16)"
    assert [check.holds for check in decision.checks] == [True, False]


def test_the_first_version_is_promoted_over_nothing() -> None:
    decision = decide(RULES, {"rmse": 17.0, "baseline_rmse": 40.0}, None)
    assert decision.promoted
    assert decision.checks[1].right is None
    assert "no production version yet" in decision.why


def test_a_candidate_that_is_not_a_number_is_not_even_a_first_version() -> None:
    decision = decide(RULES, {"rmse": math.nan, "baseline_rmse": 40.0}, None)
    assert not decision.promoted
    assert decision.why.count("rmse is not a number (NaN)") == 2


def test_without_rules_every_candidate_is_promoted() -> None:
    assert decide(Promote(), {}, None).why == "promoted: no rule is declared"
    assert decide(Promote(), {}, None).promoted


@pytest.mark.parametrize(
    ("rule", "sides"),
    [
        ("0 < rmse < 10 < 12", (15.0, 10.0)),
        ("rmse < 99 and mae > 5", (3.0, 5.0)),
        ("rmse < 9 or mae < 2", (15.0, 9.0)),
        ("not rmse < 20", (15.0, 20.0)),
    ],
)
def test_the_shown_sides_are_those_of_the_comparison_that_failed(rule: str, sides: tuple[float, float]) -> None:
    check = decide(Promote(when=(rule,)), {"rmse": 15.0, "mae": 3.0}, None).checks[0]
    assert not check.holds
    assert (check.left, check.right) == sides


def test_a_decision_fits_into_an_event_even_with_values_that_json_lacks() -> None:
    decision = decide(RULES, {"rmse": math.nan, "baseline_rmse": math.inf}, {"rmse": -math.inf})
    values = decision.to_json()
    assert json.loads(canonical(values)) == values
    assert values["checks"][0] == {
        "text": "rmse <= baseline_rmse * 0.95",
        "holds": False,
        "left": "nan",
        "right": "inf",
        "note": "rmse is not a number (NaN)",
    }
    assert "\n" not in values["why"]


def test_an_unknown_metric_stops_the_decision() -> None:
    with pytest.raises(SpecError, match="did you mean 'rmse'"):
        decide(Promote(when=("rmze < 1",)), {"rmse": 3.0}, None)


def test_a_difference_that_is_claimed_with_confidence_has_its_interval() -> None:
    rules = Promote(when=("mae < production.mae with 95% confidence",))
    errors = [float(number % 7) for number in range(200)]
    better, worse = (grades({"rows": {"mae": [factor * error for error in errors]}}) for factor in (0.5, 1.0))
    sure, unsure = decide_grades(rules, better, worse), decide_grades(rules, worse, worse)
    assert sure.promoted and not unsure.promoted
    [check] = sure.checks
    assert check.interval is not None and check.interval.high < 0
    assert check.to_json()["interval"]["confidence"] == 0.95 and canonical(sure.to_json())
    assert "the difference lies in [-" in sure.why and "with 95% confidence" in sure.why
    assert decide_grades(rules, better, None).promoted, "there is nothing to be better than"


@pytest.mark.parametrize(
    ("approvals", "why"),
    [
        (1, "waits for 1 person to approve: rmse <= 20 holds (15 against 20)"),
        (2, "waits for 2 people"),
        (("ann", "bob"), "waits for ann and bob"),
    ],
)
def test_approvals_are_asked_for_only_when_every_rule_holds(approvals: int | tuple[str, ...], why: str) -> None:
    rules = Promote(when=("rmse <= 20",), approvals=approvals)
    held, failed = decide(rules, {"rmse": 15.0}, None), decide(rules, {"rmse": 25.0}, None)
    assert (
        not held.promoted
        and held.why.startswith(why)
        and held.to_json()["pending"] == (approvals if isinstance(approvals, int) else list(approvals))
    )
    assert not failed.promoted and "pending" not in failed.to_json()


@pytest.mark.parametrize(
    ("left", "right", "note", "line"),
    [
        (15.0, 38.0, "", "r holds (15 against 38)"),
        (1 / 3, 1e-9, "", "r holds (0.333333 against 1e-09)"),
        (1234567.0, 0.0, "", "r holds (1.23457e+06 against 0)"),
        (None, 1.0, "no production version yet", "r holds (no production version yet)"),
        (1.0, 2.0, "the difference", "r holds (1 against 2, the difference)"),
    ],
)
def test_a_check_is_one_line_with_its_numbers(left: float | None, right: float | None, note: str, line: str) -> None:
    assert Check("r", True, left, right, note).describe() == line
    assert Check("r", False, left, right, note).describe() == line.replace("holds", "does not hold")


def test_a_rule_of_slices_names_the_worst_group_and_a_new_group_counts() -> None:
    rules = Promote(when=("max(slice.carrier.rmse) <= 16", 'slice.carrier["AA"].rmse < 11', "gap(slice.carrier.rmse) < 10"))
    sliced = {"carrier": {"AA": {"rmse": 10.0}, "UA": {"rmse": 15.0}}}
    good = decide_grades(rules, Grades({}, sliced), None)
    assert good.promoted
    assert [(check.left, check.right) for check in good.checks] == [(15.0, 16.0), (10.0, 11.0), (5.0, 10.0)]
    worse = {"carrier": {**sliced["carrier"], "9E": {"rmse": 21.0}}}
    bad = decide_grades(rules, Grades({}, worse), None)
    assert [(check.holds, check.left) for check in bad.checks] == [(False, 21.0), (True, 10.0), (False, 11.0)]
    assert bad.why.count("does not hold") == 2


def test_a_drift_is_judged_against_production_only() -> None:
    rules = Promote(when=("drift.psi(dep_delay) < 0.2", 'drift.ks("dep_delay") < 0.1'))
    found = {"psi(dep_delay)": 0.3, "ks(dep_delay)": 0.05}
    decision = decide_grades(rules, Grades({}), Grades({}), found)
    assert [check.holds for check in decision.checks] == [False, True]
    assert decide_grades(rules, Grades({}), None, found).promoted
    with pytest.raises(SpecError, match=r"psi\(dep_delay\)"):
        decide_grades(rules, Grades({}), Grades({}), {"psi(arr_delay)": 0.1})


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.5, 2))
def test_the_verdict_is_that_of_the_comparison_and_the_same_each_time(candidate: float, production: float, factor: float) -> None:
    rules = Promote(when=(f"rmse <= production.rmse * {factor!r}",))
    decision = decide(rules, {"rmse": candidate}, {"rmse": production})
    assert decision.promoted is (candidate <= production * factor)
    assert decide(rules, {"rmse": candidate}, {"rmse": production}) == decision
    assert canonical(decision.to_json()) == canonical(json.loads(json.dumps(decision.to_json())))


def test_confidence_without_rows_stops_the_decision_but_not_for_a_first_version() -> None:
    rules = Promote(when=("rmse < production.rmse with 95% confidence",))
    with pytest.raises(SpecError, match="needs the rows of the candidate"):
        decide(rules, {"rmse": 1.0}, {"rmse": 2.0})
    assert decide(rules, {"rmse": 1.0}, None).promoted
