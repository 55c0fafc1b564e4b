"""Features: windows over events, columns as of a time, functions on demand.

Does not know: whether the dataset has the columns (`project`), or how they are computed (`data`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError
from bedplate.core.spec.base import Column, Declared, Entry, Name
from bedplate.core.spec.dataset import ColumnType

Aggregate = Literal["count", "sum", "mean", "min", "max", "last", "distinct", "decayed_sum", "decayed_count", "decayed_mean"]


class Feature(Declared):
    """A feature view over a dataset: windowed aggregates of its events, or its columns as of a time.

    A window of length W at time T covers (T - W, T] of the times at which the events were known. Aggregates that decay have no window: an
    event of age t counts 2^-(t / half-life). `ttl`: a value as of a time is null when it is older; the online store forgets what is.
    """

    from_: Name = Field(alias="from")
    entity: tuple[Column, ...]
    windows: tuple[str, ...] = ()
    half_lives: tuple[str, ...] = ()
    aggregates: dict[Column, tuple[Aggregate, ...]] = Field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    ttl: str | None = None

    @field_validator("entity", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("ttl")
    @classmethod
    def _duration(cls, ttl: str | None) -> str | None:
        return None if ttl is None else cls._durations((ttl,))[0]

    @field_validator("windows", "half_lives")
    @classmethod
    def _durations(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        for window in windows:
            try:
                duration_s(window)
            except SpecError as error:
                raise ValueError(error.one_line()) from error
        return windows

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        asked = {aggregate for aggregates in self.aggregates.values() for aggregate in aggregates}
        decayed = {aggregate for aggregate in asked if aggregate.startswith("decayed_")}
        if bool(self.aggregates) == bool(self.columns) or bool(asked - decayed) != bool(self.windows):
            raise ValueError("give either `windows` with `aggregates`, or `columns`")
        if bool(decayed) != bool(self.half_lives):
            raise ValueError("give `half_lives` with aggregates that decay, and only with them")
        if not self.entity:
            raise ValueError("name at least one entity column")
        return self


class OnDemand(Declared):
    """Features that a function computes from fields of a row and from other features, in training and for each request alike.

    The function takes a mapping of column name to Arrow array, those of `inputs`, and returns one with `columns`.
    """

    function: Entry
    inputs: tuple[Column, ...] = Field(min_length=1)
    columns: dict[Column, ColumnType] = Field(min_length=1)


def _feature_kind(value: Any) -> str:
    """Which kind of feature a declaration is: only one that is computed on demand has a function."""
    fields = value if isinstance(value, dict) else dict(value) if isinstance(value, Declared) else {}
    return FEATURE_KINDS["function" in fields]


FEATURE_KINDS = ("stored feature", "on-demand feature")
AnyFeature = Annotated[
    Annotated[Feature, Tag("stored feature")] | Annotated[OnDemand, Tag("on-demand feature")],
    Discriminator(_feature_kind),
]
