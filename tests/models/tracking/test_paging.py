"""Pages and their tokens."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.models.tracking.paging import offset_of, page, token_at
from bedplate.models.tracking.refusal import Refused


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_the_pages_are_the_whole(things: list[int], size: int) -> None:
    found: list[int] = []
    token: str | None = None
    while True:
        part, token = page(things, size, token)
        found += part
        assert len(part) <= size
        if token is None:
            break
        assert part
    assert found == things


@given(st.text(max_size=30))
def test_any_token_is_a_place_or_refused(token: str) -> None:
    try:
        assert offset_of(token) >= 0
    except Refused as refused:
        assert refused.status == 400


@pytest.mark.parametrize("offset", [-1, 1 << 63, 10**30, 1.5, True, None, "3", [1]])
def test_a_token_of_our_form_with_another_place_is_refused(offset: object) -> None:
    """A database counts to 2^63: a larger place would be an error of the server."""
    token = base64.b64encode(json.dumps({"offset": offset}).encode()).decode()
    with pytest.raises(Refused, match="page token"):
        page([1, 2, 3], 2, token)


def test_a_place_behind_the_end_is_an_empty_page() -> None:
    assert page([1, 2, 3], 2, token_at(1 << 62)) == ([], None)
    assert page([1, 2, 3], 2, token_at(2)) == ([3], None)
    assert page([1, 2, 3], 3, None) == ([1, 2, 3], None)


def test_tokens() -> None:
    assert offset_of(token_at(12)) == 12
    assert (offset_of(None), offset_of("")) == (0, 0)
    for wrong in ("x", "eyJvZmZzZXQiOiAtMX0=", "W10="):
        with pytest.raises(Refused, match="page token"):
            offset_of(wrong)
