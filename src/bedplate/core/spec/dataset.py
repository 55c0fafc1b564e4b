"""Datasets: the tables of the lake and where their rows come from.

Does not know: how a source is read (`data`) or whether a column exists.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from bedplate.core.spec.base import Column, Declared

ColumnType = Literal["string", "int", "float", "bool", "timestamp"]


class Dataset(Declared):
    """A table of the lake and where its rows come from.

    `source` is a file (CSV, Parquet, JSON lines; gz and zst), a pattern of text files (`text/**/*.py`: columns path and text) or a
    stream (`log://topic`). `known_at` names the column that says when
    a row could be known, `event_time` when what it tells of happened. With `backfill: trusted` the time of arrival here is ignored: a
    replay of the past is taken at its word. `subject` names the column that says which person a row is about; `license` and `residency`
    are what a data sheet says. These three change no step.
    """

    source: str = Field(min_length=1)
    key: tuple[Column, ...] = ()
    event_time: Column | None = None
    known_at: Column | None = None
    columns: dict[Column, ColumnType] = Field(default_factory=dict)
    derive: dict[Column, str] = Field(default_factory=dict)
    backfill: Literal["trusted", "untrusted"] = "untrusted"
    subject: Column | None = None
    license: str | None = Field(default=None, min_length=1)
    residency: str | None = Field(default=None, min_length=1)

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
