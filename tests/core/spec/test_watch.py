"""Triggers: conditions, and what is none."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Trigger


@pytest.mark.parametrize(
    "values",
    [
        {"changed": "data"},
        {"changed": ["data", "code"], "targets": ["delay"], "pause": "1h"},
        {"every": "1d"},
        {"at": "03:30"},
        {"at": "mon 23:59", "mode": "run"},
        {"drift": {"flights.dep_delay": 0.2}, "measure": "ks"},
    ],
)
def test_a_trigger_has_at_least_one_condition(values: dict[str, object]) -> None:
    assert Trigger.model_validate(values).pause == values.get("pause", "1m")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "give at least one of"),
        ({"targets": ["delay"]}, "give at least one of"),
        ({"changed": ["wheather"]}, "Input should be 'data' or 'code'"),
        ({"every": "daily"}, "not a duration"),
        ({"every": "1d", "pause": "0s"}, "not a duration"),
        ({"at": "25:00"}, "write a time of day in UTC"),
        ({"at": "3:30"}, "write a time of day in UTC"),
        ({"at": "monday 03:30"}, "write a time of day in UTC"),
        ({"drift": {"dep_delay": 0.2}}, "write dataset.column: limit"),
        ({"drift": {"flights.dep_delay": 0}}, "write dataset.column: limit"),
        ({"on": ["data"]}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_trigger(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Trigger.model_validate(values)
