"""Datasets: the tables of the lake and where their rows come from.

Does not know: how a source is read (`data`) or whether a column exists.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from bedplate.core.errors import SpecError
from bedplate.core.spec.base import Column, Declared, Entry, Name
from bedplate.core.spec.expectation import Expectation
from bedplate.core.spec.retention import Retention

ColumnType = Literal["string", "int", "float", "bool", "timestamp"]
KAFKA = "kafka://"
_KAFKA = re.compile(r"[A-Za-z0-9_.-]+:[0-9]{1,5}(,[A-Za-z0-9_.-]+:[0-9]{1,5})*/[A-Za-z0-9._-]{1,249}")
_SECRETS = re.compile(r"password|secret|pem$|\.key$|oauthbearer\.config")


class Dataset(Declared):
    """A table of the lake and where its rows come from.

    `source` is a file (CSV, Parquet, JSON lines; gz and zst), a pattern of such files (`days/*.csv.gz`) or of text files
    (`text/**/*.py`: columns path and text), both also as objects (`s3://bucket/days/*.parquet`), or a stream: the embedded one
    (`log://topic`) or Kafka's (`kafka://host:port,host:port/topic`, with `options` of librdkafka, in which `${NAME}` is the environment's).
    `known_at` names the column that says when a row could be known, `event_time` when what it tells of happened. With `backfill:
    trusted` the time of arrival here is ignored: a replay of the past is taken at its word. `subject` names the column that says which
    person a row is about; `license` and `residency` are what a data sheet says. These three change no step. `expect` is what must hold
    before a version is accepted. `retention` is how long versions are kept; it changes no step either.
    In place of a source, `sql` is a query over other datasets, and `python` (`file.py:name`) a function of those that `reads` names.
    """

    source: str = Field(default="")
    sql: str | None = Field(default=None, min_length=1)
    python: Entry | None = None
    reads: tuple[Name, ...] = ()
    options: dict[str, str] = Field(default_factory=dict)
    key: tuple[Column, ...] = ()
    event_time: Column | None = None
    known_at: Column | None = None
    columns: dict[Column, ColumnType] = Field(default_factory=dict)
    derive: dict[Column, str] = Field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()
    backfill: Literal["trusted", "untrusted"] = "untrusted"
    subject: Column | None = None
    license: str | None = Field(default=None, min_length=1)
    residency: str | None = Field(default=None, min_length=1)
    retention: Retention | None = None

    @property
    def is_made(self) -> bool:
        """Whether its rows are made of other datasets."""
        return self.sql is not None or self.python is not None

    @property
    def topic(self) -> str | None:
        """The topic of a stream, else None."""
        return self.source.rpartition("/")[2] if self.source.startswith(("log://", KAFKA)) else None

    @property
    def is_embedded(self) -> bool:
        """Whether the source is a topic of the project's embedded log."""
        return self.source.startswith("log://")

    @property
    def is_remote(self) -> bool:
        """Whether the source lies in an object store."""
        return self.source.startswith(("s3://", "gs://"))

    @field_validator("expect")
    @classmethod
    def _told_apart(cls, expect: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
        labels = [each.label for each in expect]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"two expectations are called {label!r}: give one a `name`")
        return expect

    @field_validator("options")
    @classmethod
    def _names_secrets(cls, options: dict[str, str]) -> dict[str, str]:
        for name, value in options.items():
            if _SECRETS.search(name) and "${" not in value:
                # no ValueError, whose message would show the value
                raise SpecError(
                    "a secret stands in the project file", field=f"options: {name}", fix="write ${NAME}, and put it into the environment"
                )
        return options

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        given = [name for name in ("source", "sql", "python") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of source, sql, python, not {' and '.join(given) or 'none'}")
        if bool(self.reads) != (self.python is not None):
            raise ValueError("`reads` names the datasets that a `python` function is given; a query names them itself")
        apart = [each.label for each in self.expect if each.otherwise == "quarantine"]
        if self.is_made and apart:
            raise ValueError(f"rows that are made are not set apart ({apart[0]}): filter them, or use `otherwise: warn` or `stop`")
        return self

    @model_validator(mode="after")
    def _options_are_of_kafka(self) -> Self:
        if self.options and not self.source.startswith(KAFKA):
            raise ValueError(f"`options` are those of a kafka:// source, and this is {self.source!r}")
        return self

    @field_validator("source")
    @classmethod
    def _known_scheme(cls, source: str) -> str:
        scheme, separator, rest = source.partition("://")
        if scheme in ("s3", "gs") and separator:
            if not re.fullmatch(r"[a-z0-9][a-z0-9._-]+/[^/@][^@]*[^/@]", rest):
                raise ValueError(
                    f"{rest!r} names no objects: write {scheme}://bucket/key or {scheme}://bucket/days/*.csv, without a password"
                )
            return source
        if scheme == "kafka" and separator:
            if not _KAFKA.fullmatch(rest):
                raise ValueError(f"{rest!r} is no topic: write kafka://host:port,host:port/topic; a password goes to `options:`")
            return source
        if separator and scheme != "log":
            raise ValueError(
                f"unknown scheme {scheme!r}: use a path inside the project, s3://bucket/key, log://topic or kafka://host:port/topic"
            )
        if separator and not re.fullmatch(r"[a-z][a-z0-9_.-]{0,62}", rest):
            raise ValueError(f"{rest!r} is no topic: use lower-case letters, digits, '.', '_' and '-'")
        return source
