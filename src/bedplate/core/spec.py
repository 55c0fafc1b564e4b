"""The project: what a user declares, as frozen pydantic models. The reference page of `bedplate.yaml` is tested against them.

Does not know: YAML or positions (`source`), references between fields (`project`), files, hardware or engines.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.errors import SpecError

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
ColumnType = Literal["string", "int", "float", "bool", "timestamp"]
Aggregate = Literal["count", "sum", "mean"]
Entry = Annotated[str, Field(pattern=r"^[\w./-]+\.py:[A-Za-z_]\w*$")]


class Declared(BaseModel):
    """The base of all that is declared: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Dataset(Declared):
    """A table of the lake and where its rows come from.

    `source` is a file (CSV, Parquet, JSON lines; gz and zst) or a stream (`log://topic`). `known_at` names the column that says when
    a row could be known, `event_time` when what it tells of happened. With `backfill: trusted` the time of arrival here is ignored: a
    replay of the past is taken at its word.
    """

    source: str = Field(min_length=1)
    key: tuple[Column, ...] = ()
    event_time: Column | None = None
    known_at: Column | None = None
    columns: dict[Column, ColumnType] = Field(default_factory=dict)
    derive: dict[Column, str] = Field(default_factory=dict)
    backfill: Literal["trusted", "untrusted"] = "untrusted"

    @property
    def topic(self) -> str | None:
        """The topic of a `log://` source, else None."""
        return self.source.removeprefix("log://") if self.source.startswith("log://") else None

    @field_validator("source")
    @classmethod
    def _known_scheme(cls, source: str) -> str:
        scheme, separator, rest = source.partition("://")
        if separator and scheme != "log":
            raise ValueError(f"unknown scheme {scheme!r}: use a path inside the project or log://topic")
        if separator and not re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", rest):
            raise ValueError(f"{rest!r} is no topic: use lower-case letters, digits, '.', '_' and '-'")
        return source


class Feature(Declared):
    """A feature view over a dataset: windowed aggregates of its events, or its columns as of a time.

    A window of length W at time T covers (T - W, T] of the times at which the events were known.
    """

    from_: Name = Field(alias="from")
    entity: tuple[Column, ...]
    windows: tuple[str, ...] = ()
    aggregates: dict[Column, tuple[Aggregate, ...]] = Field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    @field_validator("entity", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("windows")
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
        if bool(self.aggregates) == bool(self.columns) or bool(self.aggregates) != bool(self.windows):
            raise ValueError("give either `windows` with `aggregates`, or `columns`")
        if not self.entity:
            raise ValueError("name at least one entity column")
        return self


class Inputs(Declared):
    """What a job trains on: the rows of the spine, whole and in order, with a label and point-in-time features joined to them."""

    spine: Name
    columns: tuple[Column, ...] = ()
    label: str = Field(pattern=r"^[a-z][a-z0-9_-]*\.[A-Za-z_]\w*$")
    features: tuple[Name, ...] = ()


class Split(Declared):
    """How rows divide into train, valid and test: by time, the last part is the test."""

    by: Literal["time"] = "time"
    valid: float = 0.1
    test: float = 0.2

    @field_validator("valid", "test", mode="before")
    @classmethod
    def _percent(cls, value: Any) -> Any:
        if isinstance(value, str) and value.strip().endswith("%"):
            return float(value.strip()[:-1]) / 100
        return value

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if min(self.valid, self.test) < 0 or self.valid + self.test >= 1:
            raise ValueError("valid and test must be fractions that leave something to train on")
        return self


class Resources(Declared):
    """What a step needs. `workers` is the world size; `cpus`, `memory_gb` and `accelerators` (a count or a range "0..1") are per worker."""

    workers: int = Field(default=1, ge=1, le=4096)
    cpus: float = Field(default=1.0, gt=0)
    memory_gb: float = Field(default=0.0, ge=0)
    accelerators: str = "0"

    @field_validator("accelerators", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("accelerators")
    @classmethod
    def _range(cls, value: str) -> str:
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", value)
        if match is None or int(match.group(1)) > int(match.group(2) or match.group(1)):
            raise ValueError("write a count or a range, for example 1 or 0..1")
        return value

    def accelerator_range(self) -> tuple[int, int]:
        """The least and the most accelerators a worker can use."""
        low, _, high = self.accelerators.partition("..")
        return int(low), int(high or low)


class Job(Declared):
    """A piece of the user's own code: a function that takes a run, or a plain command.

    `outputs` are files inside the project or streams (`log://topic`) that it writes; `code` names further files that its result depends on.
    """

    function: Entry | None = None
    command: str | None = None
    inputs: Inputs | None = None
    split: Split = Split()
    params: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    resources: Resources = Resources()
    outputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    checkpoint_every: str = "30s"
    max_restarts: int = Field(default=3, ge=0, le=100)
    max_time: str | None = None

    @field_validator("checkpoint_every", "max_time")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                duration_s(value)
        except SpecError as error:
            raise ValueError(error.one_line()) from error
        return value

    @model_validator(mode="after")
    def _one_entry(self) -> Self:
        if bool(self.function) == bool(self.command):
            raise ValueError("give either `function: file.py:name` or `command: ...`")
        return self


class Promote(Declared):
    """When an alias moves to a new version: every comparison must hold. One with an absent production holds."""

    to: Name = "production"
    when: tuple[str, ...] = ()


class Model(Declared):
    """A model of the registry: the job that trains it and the functions that grade it and answer with it."""

    from_: Name = Field(alias="from")
    evaluate: Entry
    predict: Entry
    promote: Promote = Promote()


class Endpoint(Declared):
    """An HTTP endpoint on loopback for the model behind an alias (`delay@production`). Port 0 takes a free one and keeps it."""

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*@[a-z][a-z0-9_-]*$")
    port: int = Field(default=0, ge=0, le=65535)


class ProjectSpec(Declared):
    """All that one project declares."""

    project: Name
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    features: dict[Name, Feature] = Field(default_factory=dict)
    jobs: dict[Name, Job] = Field(default_factory=dict)
    models: dict[Name, Model] = Field(default_factory=dict)
    endpoints: dict[Name, Endpoint] = Field(default_factory=dict)
