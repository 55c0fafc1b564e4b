"""Pages of an answer: a token names where the next one begins, as MLflow's own tokens do.

Does not know: what is on a page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeVar

from bedplate.models.tracking.refusal import invalid

Thing = TypeVar("Thing")
MOST = 1 << 62  # what a database still counts


def offset_of(token: object) -> int:
    """The place that a token names; 0 without one. Raises Refused."""
    if not token:
        return 0
    try:
        offset = json.loads(base64.b64decode(str(token), validate=True))["offset"]
        if type(offset) is not int or not 0 <= offset <= MOST:
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise invalid("Invalid page token, could not base64-decode or parse it") from error
    return offset


def token_at(offset: int) -> str:
    """The token of a place."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def page(things: Sequence[Thing], size: int, token: object) -> tuple[list[Thing], str | None]:
    """One page of `things`, and the token of the next, if there is one. Raises Refused for a token that is none."""
    offset = offset_of(token)
    return list(things[offset : offset + size]), token_at(offset + size) if offset + size < len(things) else None
