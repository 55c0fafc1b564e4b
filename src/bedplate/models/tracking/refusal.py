"""Refusals: MLflow's error codes, the HTTP status that goes with each, and the two forms of an answer.

The codes and their statuses are those of `mlflow.exceptions.ERROR_CODE_TO_HTTP_STATUS` (3.17).
Does not know: which request is refused, or why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

STATUSES: Mapping[str, int] = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
}
JSON = "application/json"
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # one for all: `json.dumps` would make one a call


class Answer(NamedTuple):
    """An HTTP answer: status, content type, and the body, or the file that is the body."""

    status: int
    content_type: str
    body: bytes | Path
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is answered with an error: MLflow's code, a message, and the HTTP status where it is not the code's own."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUSES[code] if status is None else status

    def answer(self) -> Answer:
        """The error as MLflow's client reads it."""
        return json_answer({"error_code": self.code, "message": self.message}, self.status)


def invalid(message: str) -> Refused:
    """A request with a value that cannot be."""
    return Refused("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> Refused:
    """A request about something that is not there."""
    return Refused("RESOURCE_DOES_NOT_EXIST", message)


def json_answer(value: object, status: int = 200) -> Answer:
    """An answer in JSON. NaN and infinities must be strings by then, as protobuf's JSON form has them."""
    return Answer(status, JSON, b"{}" if value == {} else _ENCODER.encode(value).encode())


def number_json(value: float) -> float | str:
    """A number as protobuf's JSON form writes it."""
    if value != value:
        return "NaN"
    return value if abs(value) != float("inf") else ("Infinity" if value > 0 else "-Infinity")


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a request's body is; an empty body is an empty object. Raises Refused."""
    try:
        value = json.loads(body) if body else {}
        if isinstance(value, str):  # old clients encode twice
            value = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise Refused("BAD_REQUEST", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise Refused("BAD_REQUEST", "the body is not a JSON object")
    halves = b"\\ud" in body or b"\\uD" in body  # JSON can write half of a surrogate pair; no file can hold it
    return dict(_encodable(value)) if halves else value


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_encodable(name): _encodable(inner) for name, inner in value.items()}
    return [_encodable(inner) for inner in value] if isinstance(value, list) else value
