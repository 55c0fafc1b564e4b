"""Time: durations as people write and read them, instants in UTC, and a clock that only a test moves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.clock import SimClock, SystemClock, duration_s, human_duration, instant, iso
from bedplate.core.errors import SpecError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6h", 21600.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
        ("90s", 90.0),
        ("90", 90.0),
        (90, 90.0),
        (0.5, 0.5),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("5min", 300.0),
        ("250ms", 0.25),
        (" 6 h ", 21600.0),
    ],
)
def test_a_duration(text: str | float, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "6x", "6H", "-5m", "0s", 0, "1e3", "1,5h", "6h 5m", "nan", "inf", True, None, "9" * 400])
def test_what_is_no_duration_is_shown_with_the_form_that_is(text: object) -> None:
    with pytest.raises(SpecError) as caught:
        duration_s(text)
    assert caught.value.value == text
    assert "6h, 7d or 90s" in caught.value.one_line()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (59.4, "59 s"),
        (59.7, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7800, "2 h 10 min"),
        (360000, "100 h 0 min"),
    ],
)
def test_a_duration_as_people_read_it(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e8))
def test_no_duration_reads_sixty_seconds_or_minutes(seconds: float) -> None:
    assert "60 s" not in human_duration(seconds)
    assert "60 min" not in human_duration(seconds)


def test_an_instant_without_an_offset_is_utc() -> None:
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    for text in ("2013-01-01T12:00:00", "2013-01-01 12:00:00Z", "2013-01-01T13:00:00+01:00", "2013-01-01T12:00:00.000Z"):
        assert instant(text) == noon
        assert instant(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01", "10:00"])
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        instant(text)


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_an_instant_comes_back_to_the_millisecond(at_ms: int) -> None:
    assert round(instant(iso(at_ms / 1000)).timestamp() * 1000) == at_ms


def test_iso_shows_milliseconds() -> None:
    assert iso(1357034400.25) == "2013-01-01T10:00:00.250Z"


def test_the_simulated_clock_moves_only_when_told() -> None:
    clock = SimClock(100.0)
    assert clock.now() == clock.now() == 100.0
    clock.sleep(2.5)
    assert clock.now() == 102.5


def test_the_system_clock_is_the_machines() -> None:
    before = time.time()
    SystemClock().sleep(0.001)
    assert before < SystemClock().now() <= time.time()
