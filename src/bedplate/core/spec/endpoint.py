"""Endpoints: a model behind an alias, answering over HTTP.

Does not know: how requests are answered (`serve`).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from bedplate.core.spec.base import Declared


class Endpoint(Declared):
    """An HTTP endpoint on loopback for the model behind an alias (`delay@production`). Port 0 takes a free one and keeps it.

    `store` is where its features lie: `sqlite://` (a file of each replica), `redis://...` or `postgres://...`. A password is named, as
    `${NAME}` of the environment, and never written.
    """

    model: str = Field(pattern=r"^[a-z][a-z0-9_-]*@[a-z][a-z0-9_-]*$")
    port: int = Field(default=0, ge=0, le=65535)
    store: str = "sqlite://"
    unsigned: Literal["refused", "allowed"] = "refused"

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
