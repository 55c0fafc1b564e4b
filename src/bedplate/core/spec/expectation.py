"""Expectations: what must hold of a dataset's rows, and what follows when it does not.

Does not know: how a rule is checked (`data.expectations`), or whether a column exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.spec.base import Column, Declared

Bound = int | float | str
_RULES = ("not_null", "range", "unique", "freshness", "rows", "sql")
_OF_ROWS = ("not_null", "range", "sql")
_SHOWN_CHARS = 60


class Range(Declared):
    """Values of `column` lie between `min` and `max`, both inclusive; for times and texts the bounds are text."""

    column: Column
    min: Bound | None = None
    max: Bound | None = None

    @field_validator("min", "max", mode="before")
    @classmethod
    def _dated(cls, value: Any) -> Any:
        return value.isoformat() if isinstance(value, date) else value  # YAML makes a date of a bare 2024-01-31

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        bounds: list[Any] = [bound for bound in (self.min, self.max) if bound is not None]
        if not bounds:
            raise ValueError("give `min`, `max` or both")
        if len({isinstance(bound, str) for bound in bounds}) > 1:
            raise ValueError("one bound is a number and the other is text")
        if sorted(bounds) != bounds:
            raise ValueError("`min` is above `max`")
        return self


class RowCount(Declared):
    """A table has from `min` to `max` rows, both inclusive."""

    min: int = Field(default=0, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min == 0 and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.max is not None and self.min > self.max:
            raise ValueError("`min` is above `max`")
        return self


class Expectation(Declared):
    """One rule about a dataset: exactly one of its first six fields.

    `not_null`, `range` and `sql` (a predicate over stored columns; null counts as true, as in a CHECK of SQL) are about each row;
    `unique`, `freshness` (of the newest row, a duration) and `rows` about the table. `otherwise` is what follows: `stop` accepts no new
    version, `warn` records it, `quarantine` sets the row apart and needs a rule about rows. `name` is what reports call it.
    """

    not_null: tuple[Column, ...] = ()
    range: Range | None = None
    unique: tuple[Column, ...] = ()
    freshness: str | None = None
    rows: RowCount | None = None
    sql: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1, max_length=120)
    otherwise: Literal["warn", "quarantine", "stop"] = "stop"

    @property
    def rule(self) -> str:
        """Which of the rules it is."""
        return next(rule for rule in _RULES if getattr(self, rule))

    @property
    def of_rows(self) -> bool:
        """Whether each row keeps or breaks it by itself."""
        return self.rule in _OF_ROWS

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names; those inside a predicate are not known."""
        return (self.range.column,) if self.range else self.not_null or self.unique

    @property
    def label(self) -> str:
        """Its name, or what it says in few words."""
        return self.name or _LABELS[self.rule](self)

    @field_validator("not_null", "unique", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("freshness")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return value

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        given = [rule for rule in _RULES if getattr(self, rule)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_RULES)}, not {' and '.join(given) or 'none'}")
        if self.otherwise == "quarantine" and not self.of_rows:
            raise ValueError(f"`{given[0]}` is about the whole table: no row can be set apart for it, use `otherwise: warn` or `stop`")
        return self


def _bounds(least: Bound | None, most: Bound | None) -> str:
    return f"{'' if least is None else least}..{'' if most is None else most}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"


_LABELS: Mapping[str, Any] = {
    "not_null": lambda it: f"{', '.join(it.not_null)} not null",
    "range": lambda it: f"{it.range.column} in {_bounds(it.range.min, it.range.max)}",
    "unique": lambda it: f"{', '.join(it.unique)} unique",
    "freshness": lambda it: f"newest within {it.freshness}",
    "rows": lambda it: f"{_bounds(it.rows.min, it.rows.max)} rows",
    "sql": lambda it: _shortened(it.sql),
}
