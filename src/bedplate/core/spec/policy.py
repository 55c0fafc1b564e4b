"""Policies: what a project may spend, where its data may go, and what it may run on.

Does not know: how a rule is applied to an offer (`policy.rules`) or to what was spent (`policy.budget`).
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.money import parse_money
from bedplate.core.spec.base import Declared

RULES = ("residency", "operator", "budget", "deadline", "carbon", "accelerators", "images", "pools")
Rule = Literal["residency", "operator", "budget", "deadline", "carbon", "accelerators", "images", "pools"]


class Residence(Declared):
    """Where what carries a label may be: `jurisdictions` by place, `operators_from` by the home countries of who runs the place.

    What a place does not say fails: an unknown jurisdiction or operator's home is outside.
    """

    jurisdictions: tuple[str, ...] = ()
    operators_from: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.jurisdictions or self.operators_from):
            raise ValueError("give `jurisdictions`, `operators_from`, or both")
        return self


class Policies(Declared):
    """Rules of a project. `residency` is by the label that datasets carry; empty lists of accelerators, images and pools allow all.

    `carbon` is the most grams of CO2 a run may cause, `deadlines` the time that a step may take from its request, by its name,
    and `waiting` what an hour of waiting for one's own machines costs: from there on renting is cheaper.
    """

    budget: str | None = None
    residency: dict[str, Residence] = Field(default_factory=dict)
    accelerators: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    carbon: float | None = Field(default=None, gt=0)
    deadlines: dict[str, str] = Field(default_factory=dict)
    waiting: float = Field(default=0.0, ge=0)

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: str | None) -> str | None:
        if value is not None:
            match = re.fullmatch(r"(.+) per (day|month|year)", value)
            if match is None:
                raise ValueError(f"{value!r} is no budget: write for example 20 USD per month (or day, or year)")
            parse_money(match[1])
        return value

    @field_validator("deadlines")
    @classmethod
    def _durations(cls, deadlines: dict[str, str]) -> dict[str, str]:
        try:
            for value in deadlines.values():
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return deadlines
