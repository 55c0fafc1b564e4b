"""`policies:` in the project file: what may be written, and what each mistake is told."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from bedplate.core.spec.policy import RULES, Policies, Residence, Rule


def test_without_any_all_is_allowed() -> None:
    made = Policies()
    assert (made.budget, made.residency, made.accelerators, made.images, made.pools, made.carbon) == (None, {}, (), (), (), None)


def test_rules_are_named_once() -> None:
    assert get_args(Rule) == RULES


@pytest.mark.parametrize("budget", ["20 USD per day", "1500 EUR per month", "0.5 USD per year"])
def test_a_budget_is_money_for_a_period(budget: str) -> None:
    assert Policies(budget=budget).budget == budget


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"budget": "20 USD"}, "per month"),
        ({"budget": "20 USD per week"}, "per month"),
        ({"budget": "lots per day"}, "no amount of money"),
        ({"carbon": 0}, "greater than 0"),
        ({"waiting": -1}, "greater than or equal to 0"),
        ({"deadlines": {"fit": "soon"}}, "soon"),
        ({"residency": {"EU": {}}}, "give `jurisdictions`"),
        ({"budgets": "20 USD per day"}, "Extra inputs"),
    ],
)
def test_a_mistake_is_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Policies.model_validate(values)


def test_a_residence_is_by_place_by_operator_or_both() -> None:
    assert Residence(jurisdictions=("DE",)).operators_from == ()
    assert Residence(operators_from=("DE", "FR")).jurisdictions == ()
