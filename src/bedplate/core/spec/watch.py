"""Triggers: when `bedplate watch` asks for a launch.

Does not know: when one is due (`flow.watching`).
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.spec.base import PLACE, Declared


class Trigger(Declared):
    """When `bedplate watch` asks for a launch of `targets` (none: everything), and for what: any one of its conditions is enough.

    `changed` names what makes a step stale: data, code. `drift` maps `dataset.column` to how far it may move, by `measure`, since
    the version that production was trained on. `every` is a duration, `at` a time of day in UTC (`03:30`, `mon 03:30`). Two launches of
    one trigger are at least `pause` apart.
    """

    targets: tuple[str, ...] = ()
    changed: tuple[Literal["data", "code"], ...] = ()
    drift: dict[str, float] = Field(default_factory=dict)
    measure: Literal["psi", "ks"] = "psi"
    every: str | None = None
    at: str | None = None
    mode: Literal["up", "run"] = "up"
    pause: str = "1m"

    @field_validator("changed", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("every", "pause")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return value

    @field_validator("at")
    @classmethod
    def _time_of_day(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"((mon|tue|wed|thu|fri|sat|sun) )?([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("write a time of day in UTC, for example 03:30 or mon 03:30")
        return value

    @field_validator("drift")
    @classmethod
    def _columns(cls, drift: dict[str, float]) -> dict[str, float]:
        for place, limit in drift.items():
            if not re.fullmatch(PLACE, place) or limit <= 0:
                raise ValueError(f"write dataset.column: limit, for example flights.dep_delay: 0.2, not {place!r}: {limit}")
        return drift

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if not (self.changed or self.drift or self.every or self.at):
            raise ValueError("give at least one of `changed`, `drift`, `every` and `at`")
        return self
