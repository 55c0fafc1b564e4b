"""The gate's decision: what is promoted, and whether the reasons are readable."""

from __future__ import annotations

import json
import math

import pytest

from bedplate.core.digest import canonical
from bedplate.core.errors import SpecError
from bedplate.core.spec import Promote
from bedplate.models.gate import check_expressions, decide

RULES = Promote(when=("rmse <= baseline_rmse * 0.95", "rmse  <=  production.rmse * 1.01"))


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


def test_rules_are_checked_at_plan_time_without_any_metric() -> None:
    check_expressions(RULES)
    with pytest.raises(SpecError, match=r"promote\.when: a rule cannot hold 'min\(rmse, 3\)'"):
        check_expressions(Promote(when=("rmse < 3", "min(rmse, 3) < 3")))


def test_an_unknown_metric_stops_the_decision() -> None:
    with pytest.raises(SpecError, match="did you mean 'rmse'"):
        decide(Promote(when=("rmze < 1",)), {"rmse": 3.0}, None)
