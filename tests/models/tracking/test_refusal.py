"""Refusals and the forms of answers."""

from __future__ import annotations

import json

import pytest

from bedplate.models.tracking.refusal import STATUSES, Refused, invalid, json_answer, missing, number_json, object_of


def test_codes_have_the_statuses_of_mlflow() -> None:
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS

    assert {code: ERROR_CODE_TO_HTTP_STATUS[code] for code in STATUSES} == dict(STATUSES)


def test_an_error_is_a_code_and_a_message() -> None:
    for refused, status, code in ((invalid("x"), 400, "INVALID_PARAMETER_VALUE"), (missing("x"), 404, "RESOURCE_DOES_NOT_EXIST")):
        answer = refused.answer()
        assert isinstance(answer.body, bytes)
        assert (answer.status, answer.content_type, json.loads(answer.body)) == (
            status,
            "application/json",
            {"error_code": code, "message": "x"},
        )
    assert Refused("BAD_REQUEST", "large", 413).answer().status == 413


def test_numbers_as_protobuf_writes_them() -> None:
    values = [number_json(value) for value in (1.5, float("nan"), float("inf"), float("-inf"))]
    assert values == [1.5, "NaN", "Infinity", "-Infinity"]
    assert json_answer({"a": values}).body == b'{"a":[1.5,"NaN","Infinity","-Infinity"]}'
    assert json_answer({}).body == b"{}"


def test_bodies() -> None:
    assert object_of(b"") == {}
    assert object_of(b'{"a": 1}') == object_of(b'"{\\"a\\": 1}"') == {"a": 1}, "old clients encode twice"
    assert object_of(b'{"a": ["\\ud800", {"\\uD800": 1}]}') == {"a": ["?", {"?": 1}]}, "half a surrogate pair is in no file"
    for wrong in (b"[]", b"nonsense", b"\xff", b'"x"', b"[" * 100_000):
        with pytest.raises(Refused) as refused:
            object_of(wrong)
        assert refused.value.code == "BAD_REQUEST"
