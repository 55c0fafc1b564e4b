"""A moment as people name it."""

from __future__ import annotations

import pytest

from bedplate.core.clock import instant, iso
from bedplate.core.errors import SpecError
from bedplate.core.moment import moment

NOW_S = instant("2026-11-23T13:00:00Z").timestamp()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-11-01", "2026-11-01T00:00:00.000Z"),
        ("2026-11-01T12:00", "2026-11-01T12:00:00.000Z"),
        ("2026-11-01 12:00", "2026-11-01T12:00:00.000Z"),
        ("2026-11-01T12:00:00+02:00", "2026-11-01T10:00:00.000Z"),
        ("2 days ago", "2026-11-21T13:00:00.000Z"),
        ("1 Week ago", "2026-11-16T13:00:00.000Z"),
        ("90 minutes ago", "2026-11-23T11:30:00.000Z"),
        ("30s ago", "2026-11-23T12:59:30.000Z"),
        ("0 hours ago", "2026-11-23T13:00:00.000Z"),
        ("yesterday", "2026-11-22T13:00:00.000Z"),
        ("now", "2026-11-23T13:00:00.000Z"),
    ],
)
def test_what_people_write(text: str, told: str) -> None:
    assert iso(moment(text, NOW_S)) == told


@pytest.mark.parametrize("text", ["golden", "last week", "ago", "2026-13-01", "-2 days ago", ""])
def test_what_is_no_moment_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(SpecError, match=r"not a moment .* '2 days ago'"):
        moment(text, NOW_S)
