"""Time, passed in: the system's clock for users, a clock that tests and simulations move by hand.

Does not know: time zones (every instant is UTC), or who waits for it.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Protocol

from bedplate.core.errors import SpecError

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Clock(Protocol):
    """What the loop and the engines ask of time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""

    def sleep(self, duration_s: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def sleep(self, duration_s: float) -> None:
        """Block the calling thread for `duration_s` seconds."""
        time.sleep(duration_s)


class SimClock:
    """A clock that moves only when told: `sleep` moves it at once."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Simulated seconds since the epoch."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Move the clock forward by `duration_s` seconds."""
        self._now_s += duration_s


def iso(at_s: float) -> str:
    """An instant as ISO 8601 in UTC, to the millisecond: `2013-01-01T10:00:00.000Z`."""
    moment = datetime.fromtimestamp(at_s, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def instant(text: str) -> datetime:
    """The UTC instant that an ISO 8601 text names; a text without an offset is read as UTC.

    Raises ValueError when it is not ISO 8601.
    """
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def duration_s(text: str | int | float) -> float:
    """Seconds of a duration such as `6h`, `7d`, `90s`, `1.5h`; a bare number is seconds.

    Raises SpecError for anything else or for a duration that is not positive.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([a-z]*)\s*", str(text))
    unit_s = _UNITS_S.get(match.group(2) or "s") if match else None
    if match is None or unit_s is None or float(match.group(1)) <= 0:
        raise SpecError("not a duration", value=text, fix="write a number and a unit, for example 6h, 7d or 90s")
    return float(match.group(1)) * unit_s


def human_duration(seconds: float) -> str:
    """A duration as people read it: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
