"""Retention: how long the versions of a table are kept.

Does not know: which version something holds on to; that is never given up.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.spec.base import Declared


class Retention(Declared):
    """How long versions of a table are kept: the newest `versions`, and those that the table was within `age` (`90d`).

    A version goes when it is beyond each of the two that is given. Nothing goes by itself: `bedplate data vacuum` applies it.
    """

    versions: int | None = Field(default=None, ge=1)
    age: str | None = None

    @property
    def age_s(self) -> float | None:
        """`age` in seconds."""
        return None if self.age is None else duration_s(self.age)

    @field_validator("age")
    @classmethod
    def _is_duration(cls, age: str | None) -> str | None:
        if age is not None:
            try:
                duration_s(age)
            except SpecError as error:
                raise ValueError(f"{age!r} is no duration: {error.fix}") from error
        return age

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.versions is None and self.age is None:
            raise ValueError("say how many `versions` to keep, for what `age`, or both")
        return self
