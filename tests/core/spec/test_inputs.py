"""Inputs and how they divide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bedplate.core.spec import Inputs, Split


@pytest.mark.parametrize(("given_", "fraction"), [("20%", 0.2), (" 12.5% ", 0.125), (0.2, 0.2), ("0.2", 0.2), (0, 0.0)])
def test_a_part_of_the_rows(given_: object, fraction: float) -> None:
    assert Split.model_validate({"test": given_, "valid": 0}).test == pytest.approx(fraction)


@pytest.mark.parametrize("values", [{"test": "100%"}, {"valid": 0.5, "test": 0.5}, {"test": -0.1}, {"test": "x%"}, {"test": float("nan")}])
def test_parts_that_leave_nothing_to_train_on(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Split.model_validate(values)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_split_is_accepted_exactly_when_rows_remain(valid: float, test: float) -> None:
    try:
        Split(valid=valid, test=test)
    except ValidationError:
        assert valid + test >= 1
    else:
        assert valid + test < 1


def test_a_label_names_its_dataset() -> None:
    assert Inputs(spine="departures", label="arrivals.arr_delay").features == ()
    with pytest.raises(ValidationError):
        Inputs(spine="departures", label="arr_delay")
