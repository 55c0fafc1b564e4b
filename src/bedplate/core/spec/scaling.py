"""How many replicas an endpoint has, and how a new version comes to answer: `scale:` and `rollout:`.

Does not know: how replicas are counted (`serve.autoscale`) or when a rollout goes on (`serve.rollout`).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.spec.base import Declared, checked_duration

MAX_REPLICAS = 64
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_AT = re.compile(r"(?:(?P<day>mon|tue|wed|thu|fri|sat|sun) )?(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)")


class ScaleTarget(Declared):
    """`in_flight`: requests that one replica has at a time, those that wait included. `p99`: what the slowest percent may take."""

    in_flight: float = Field(default=8, gt=0, le=10_000)
    p99: str | None = None

    _duration = field_validator("p99")(lambda value: value if value is None else checked_duration(value))

    @property
    def p99_s(self) -> float | None:
        """The bound of latency in seconds."""
        return None if self.p99 is None else duration_s(self.p99)


class Warm(Declared):
    """At least `replicas` from `at` (UTC, `"06:30"` of every day or `"mon 06:30"`) on, `for` so long."""

    at: str = Field(pattern=_AT.pattern.replace("?P<day>", "").replace("?P<hour>", "").replace("?P<minute>", ""))
    for_: str = Field(alias="for")
    replicas: int = Field(default=1, ge=1, le=MAX_REPLICAS)

    _duration = field_validator("for_")(lambda value: checked_duration(value))

    def holds(self, now: datetime) -> bool:
        """Whether `now` (UTC) lies within."""
        match = _AT.fullmatch(self.at)
        assert match is not None
        begun = now.replace(hour=int(match["hour"]), minute=int(match["minute"]), second=0, microsecond=0)
        if match["day"]:
            begun -= timedelta(days=(now.weekday() - _DAYS.index(match["day"])) % 7)
        if begun > now:
            begun -= timedelta(days=7 if match["day"] else 1)
        return now - begun < timedelta(seconds=duration_s(self.for_))


class Scale(Declared):
    """Between `min` and `max` replicas, as many as `target` needs.

    None is left when nothing was asked for `idle`, where `min` is 0. Fewer than were wanted within `settle` there never are. `warm` names
    times at which more are wanted, before anybody asks.
    """

    min: int = Field(default=1, ge=0, le=MAX_REPLICAS)
    max: int = Field(default=4, ge=1, le=MAX_REPLICAS)
    target: ScaleTarget = ScaleTarget()
    idle: str = "5m"
    settle: str = "1m"
    warm: tuple[Warm, ...] = ()

    _durations = field_validator("idle", "settle")(lambda value: checked_duration(value))

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        most = max((self.min, *(warm.replicas for warm in self.warm)))
        if most > self.max:
            raise ValueError(f"max: {self.max} is less than the {most} that min or warm ask for")
        return self

    @property
    def idle_s(self) -> float:
        """The idle time in seconds."""
        return duration_s(self.idle)

    @property
    def settle_s(self) -> float:
        """The settling time in seconds."""
        return duration_s(self.settle)


class RollbackWhen(Declared):
    """What a new version must not do: more than `error_rate` of its answers fail, its slowest percent take longer than `p99`."""

    error_rate: str = "1%"
    p99: str | None = None

    _share = field_validator("error_rate")(lambda value: checked_share(value))
    _duration = field_validator("p99")(lambda value: value if value is None else checked_duration(value))

    @property
    def error_share(self) -> float:
        """The error rate, from 0 to 1."""
        return share_of(self.error_rate)

    @property
    def p99_s(self) -> float | None:
        """The bound of latency in seconds."""
        return None if self.p99 is None else duration_s(self.p99)


class Rollout(Declared):
    """How a new version takes over from the one before.

    `canary`: it answers the share of requests of each of `steps`, each for `every`. `shadow`: it is asked each request too for the time of
    all steps, and only the version before answers. `blue-green`: it answers everything at once, and the version before waits one step. A
    step ends when it has seen `requests`, or after ten times `every`.
    """

    kind: Literal["canary", "shadow", "blue-green"] = "canary"
    steps: tuple[str, ...] = Field(default=("5%", "25%", "100%"), min_length=1, max_length=20)
    every: str = "2m"
    requests: int = Field(default=20, ge=1, le=1_000_000)
    rollback: RollbackWhen = RollbackWhen()

    _duration = field_validator("every")(lambda value: checked_duration(value))

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[str, ...]) -> tuple[str, ...]:
        shares = [share_of(checked_share(step)) for step in steps]
        if any(later <= earlier for earlier, later in zip([0.0, *shares], shares, strict=False)):
            raise ValueError("steps are shares that rise, as 5%, 25%, 100%")
        return steps

    @property
    def every_s(self) -> float:
        """The length of a step in seconds."""
        return duration_s(self.every)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of requests that the new version answers, step by step, from 0 to 1."""
        return {"canary": tuple(map(share_of, self.steps)), "shadow": (0.0,) * len(self.steps), "blue-green": (1.0,)}[self.kind]


def share_of(value: str) -> float:
    """`5%` as 0.05."""
    return float(value.rstrip("%")) / 100


def checked_share(value: str) -> str:
    """The value, when it is a percentage. Raises ValueError."""
    if not re.fullmatch(r"\d{1,3}(\.\d+)?%", value) or share_of(value) > 1:
        raise ValueError("write a percentage, as 5%")
    return value
