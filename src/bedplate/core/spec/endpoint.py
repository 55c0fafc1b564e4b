"""Endpoints: a model behind an alias, answering over HTTP.

Does not know: how requests are answered (`serve`).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bedplate.core.clock import duration_s
from bedplate.core.spec.base import Declared, checked_duration
from bedplate.core.spec.scaling import MAX_REPLICAS, Rollout, Scale


class Batching(Declared):
    """How many rows are answered by one call of the model, and how long the first of them waits for others."""

    size: int = Field(default=32, ge=1, le=10_000)
    delay: str = "0ms"

    @field_validator("delay")
    @classmethod
    def _delay(cls, value: str) -> str:
        return value if value in ("0", "0ms", "0s") else checked_duration(value)

    @property
    def delay_s(self) -> float:
        """The delay in seconds."""
        return 0.0 if self.delay in ("0", "0ms", "0s") else duration_s(self.delay)


class Endpoint(Declared):
    """An HTTP endpoint on loopback for the model behind an alias (`delay@production`). Port 0 takes a free one and keeps it.

    `store` is where its features lie: `sqlite://` (a file of each replica), `redis://...` or `postgres://...`. A password is named, as
    `${NAME}` of the environment, and never written. At most `queue` rows wait; a request that takes longer than `deadline` gets an error.
    With `keys: required` a request needs one that `bedplate keys add` made. With `replicas` or `scale` there are several of it behind one
    port, and with `rollout` a new version takes over by steps.
    """

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*@[a-z][a-z0-9_-]*$")
    port: int = Field(default=0, ge=0, le=65535)
    store: str = "sqlite://"
    unsigned: Literal["refused", "allowed"] = "refused"
    batching: Batching = Batching()
    deadline: str = "30s"
    queue: int = Field(default=1000, ge=1, le=1_000_000)
    keys: Literal["off", "required"] = "off"
    replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    scale: Scale | None = None
    rollout: Rollout | None = None

    @model_validator(mode="after")
    def _counted_once(self) -> Endpoint:
        if self.replicas is not None and self.scale is not None:
            raise ValueError("replicas and scale both say how many there are: leave one out")
        return self

    @property
    def routed(self) -> bool:
        """Whether a router stands before its replicas."""
        return self.replicas is not None or self.scale is not None or self.rollout is not None

    @property
    def scaling(self) -> Scale:
        """How many replicas there are; a fixed number where that is declared."""
        count = self.replicas or 1
        return self.scale or Scale(min=count, max=count)

    @field_validator("deadline")
    @classmethod
    def _deadline(cls, value: str) -> str:
        return checked_duration(value)

    @field_validator("store")
    @classmethod
    def _address(cls, store: str) -> str:
        match = re.fullmatch(r"(sqlite://|(rediss?|postgres|postgresql)://(?:(?P<user>[^@]*)@)?[^@]+)", store)
        if match is None:
            raise ValueError("write sqlite://, redis://host:port/0 or postgres://user:${PASSWORD}@host:port/database")
        _, separator, password = (match["user"] or "").partition(":")
        if separator and not re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", password):
            raise ValueError(
                "a password is not written down: name a variable of the environment, as in redis://:${REDIS_PASSWORD}@host:6379/0"
            )
        return store
