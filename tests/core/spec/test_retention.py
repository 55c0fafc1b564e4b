"""Retention: what may be declared, and what a wrong one is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec.retention import Retention


def test_a_number_an_age_or_both() -> None:
    assert Retention.model_validate({"versions": 30, "age": "90d"}).age_s == 90 * 86400
    assert Retention.model_validate({"versions": 1}).age_s is None
    assert Retention.model_validate({"age": "12h"}).versions is None


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({}, "say how many `versions` to keep"),
        ({"versions": 0}, "greater than or equal to 1"),
        ({"age": "soon"}, "'soon' is no duration: write a number and a unit"),
        ({"days": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_sense_is_told(declared: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Retention.model_validate(declared)
