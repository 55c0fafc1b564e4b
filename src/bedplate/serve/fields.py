"""What a request holds: fields with a type each, and the checks by which a wrong one is told to the caller.

Does not know: what a field means, or in which protocol it came.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bedplate.core.clock import instant
from bedplate.core.errors import nearest
from bedplate.serve.asgi import Refused

MAX_SHOWN = 200
_TYPE_FIXES: Mapping[str, str] = {
    "timestamp": "send an ISO 8601 text such as 2013-01-31T05:40:00Z",
    "int": "send a whole number of at most 64 bits",
}


@dataclass(frozen=True)
class Field:
    """A field of a request, with a type of a dataset's column: string, int, float, bool or timestamp. If not required, it may be null."""

    name: str
    type: str
    required: bool = True


class Fields:
    """The fields of an endpoint."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.declared = {each.name: each for each in fields}

    def check(self, instance: Mapping[str, Any]) -> None:
        """Raises Refused unless the instance has every required field, no unknown one, and each of its type."""
        for name in instance:
            if name not in self.declared:
                raise Refused(422, "the request has an unknown field", value=shown(name), fix=nearest(name, self.declared))
        for name, declared in self.declared.items():
            value = instance.get(name)
            if value is None:
                if declared.required:
                    fix = f"send {name!r}, a {declared.type}; GET / shows an example"
                    raise Refused(422, "the request lacks a field", value=name, fix=fix)
            elif not _fits(value, declared.type):
                fix = _TYPE_FIXES.get(declared.type, f"send a {declared.type}")
                raise Refused(422, f"the field {name!r} is no {declared.type}", value=shown(value), fix=fix)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: a number that is none is null, a time is its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return plain(value.item()) if hasattr(value, "item") else str(value)


def shown(value: Any) -> Any:
    """A value of the caller's as an error repeats it: short, and never a structure."""
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else plain(value)
    return text if len(str(text)) <= MAX_SHOWN else str(text)[:MAX_SHOWN] + "…"


def _fits(value: Any, declared: str) -> bool:
    if declared == "bool" or isinstance(value, bool):
        return declared == "bool" and isinstance(value, bool)
    if declared == "int":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    if declared == "float":
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, str) and (_is_text(value) if declared == "string" else _is_instant(value))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can write it, no file can hold it
        return False
    return True


def _is_instant(text: str) -> bool:
    try:
        instant(text)
    except (ValueError, OverflowError):
        return False
    return True
