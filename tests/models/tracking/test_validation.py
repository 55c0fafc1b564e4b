"""Names, values and sizes: what MLflow's own validation says of the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.models.tracking import validation
from bedplate.models.tracking.refusal import Refused


@pytest.fixture(scope="module")
def theirs() -> object:
    from mlflow.utils import validation as found

    return found


NAMES = st.one_of(st.text(max_size=12), st.text("ab/.- _:\\%", max_size=8), st.just("x" * 251))


def taken(check: object, *values: object) -> bool:
    try:
        check(*values)  # type: ignore[operator]
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [(7, 7), ("7", 7), ("-7", -7), (7.0, 7), ("9223372036854775807", (1 << 63) - 1), (-(1 << 63), -(1 << 63)), (None, 5), ("", 5)],
)
def test_whole_numbers_in_either_form(given_value: object, expected: int) -> None:
    assert validation.number({"size": given_value}, "size", 5) == expected


@pytest.mark.parametrize(
    "wrong", [1.5, "1.5", "1_000", "²", " 7", "x", True, False, [], {}, 1 << 63, "9223372036854775808", "9" * 5000, float("inf"), 1e300]
)
def test_what_is_no_whole_number_of_64_bits_is_refused_and_named(wrong: object) -> None:
    with pytest.raises(Refused, match="'size'") as refused:
        validation.number({"size": wrong}, "size", 5)
    assert refused.value.status == 400


@pytest.mark.parametrize("wrong", [0, -1, 101])
def test_a_size_is_from_one_to_its_limit(wrong: int) -> None:
    assert [validation.bounded({"n": size}, "n", 10, 100) for size in (1, 100, None)] == [1, 100, 10]
    with pytest.raises(Refused, match="at most 100 and positive"):
        validation.bounded({"n": wrong}, "n", 10, 100)


@given(NAMES)
def test_names_of_metrics_as_mlflow_takes_them(theirs: object, name: str) -> None:
    expected = bool(name) and len(name) <= 250 and taken(theirs._validate_metric_name, name) and not name.endswith("\n")
    assert taken(validation.check_name, name) == expected


@given(NAMES)
def test_names_of_models_as_mlflow_takes_them(theirs: object, name: str) -> None:
    ours, expected = taken(validation.check_model_name, name), taken(theirs._validate_model_name, name)
    assert ours == expected or "@" in name or name in (".", "..") or name.startswith("..")


@given(st.one_of(st.text(max_size=6), st.sampled_from(["latest", "LATEST", "v1", "V22", "a-b_c", "v1a"])))
def test_aliases_as_mlflow_takes_them(theirs: object, alias: str) -> None:
    expected = taken(theirs._validate_model_alias_name, alias) and taken(theirs._validate_model_alias_name_reserved, alias)
    assert taken(validation.check_alias, alias) == (expected and not alias.endswith("\n"))


def test_whole_numbers_may_be_texts() -> None:
    assert validation.number({"n": "12"}, "n", 0) == validation.number({"n": 12}, "n", 0) == 12
    assert validation.number({}, "n", 7) == 7
    for wrong in ("x", 1 << 63, True, [], "1.5"):
        with pytest.raises(Refused, match="integer"):
            validation.number({"n": wrong}, "n", 0)
    with pytest.raises(Refused, match="at most 10"):
        validation.bounded({"n": 11}, "n", 1, 10)


def test_a_point_in_every_form_that_clients_send() -> None:
    checked: set[str] = set()
    for metric in ({"key": "m", "value": 2, "timestamp": "5", "step": "1"}, {"key": "m", "value": "2.0", "timestamp": 5, "step": 1}):
        assert validation.point(metric, checked) == ("m", 2.0, 5, 1)
    assert validation.point({"key": "m", "value": 2.0, "timestamp": 5}, checked) == ("m", 2.0, 5, 0)
    assert checked == {"m"}


def test_a_value_is_text() -> None:
    with pytest.raises(Refused, match="Value was of type 'int'"):
        validation.pair({"key": "p", "value": 3}, 10)
    assert validation.pair({"key": "p"}, 10) == ("p", "")
    assert validation.pair({"key": "p", "value": "\ud800"}, 10) == ("p", "?"), "half a surrogate pair is in no file"
    with pytest.raises(Refused, match="maximum length of 10"):
        validation.pair({"key": "p", "value": "x" * 11}, 10)


def test_a_text_is_no_list_in_a_body() -> None:
    assert validation.listed({"a": ["x", 1]}, "a") == ["x", "1"]
    with pytest.raises(Refused, match="Value was of type 'str'"):
        validation.listed({"a": "x"}, "a")


@pytest.mark.parametrize("value", [-1, 253_402_300_800_000, 2**62, "soon", 0.5])
def test_a_time_is_one_that_a_calendar_has(value: object) -> None:
    assert validation.moment({"t": 253_402_300_799_999}, "t") == 253_402_300_799_999
    assert validation.moment({}, "t") == 0
    with pytest.raises(Refused, match="Invalid value"):
        validation.moment({"t": value}, "t")


def test_lists() -> None:
    assert validation.texts({"a": "x"}, "a") == ["x"]
    assert validation.texts({"a": ["x", 1]}, "a") == ["x", "1"]
    assert validation.items({}, "a") == []
    for wrong in ("x", [1], {"a": 1}):
        with pytest.raises(Refused):
            validation.items({"a": wrong}, "a")
    with pytest.raises(Refused):
        validation.texts({"a": [{}]}, "a")


def test_what_is_not_served_is_said_as_mlflow_says_it() -> None:
    refused = validation.not_served("GET", "/api/2.0/mlflow/gateway")
    assert (refused.status, refused.code) == (404, "ENDPOINT_NOT_FOUND")
