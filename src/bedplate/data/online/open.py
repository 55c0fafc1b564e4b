"""The databases that an online store can be in, by the scheme of their address, loaded when they are used.

An address may name an environment variable for what must not be written down: `redis://:${REDIS_PASSWORD}@cache:6379/0`.
Does not know: what is in a store.
"""

from __future__ import annotations

from collections.abc import Mapping

from bedplate.core.errors import DataError
from bedplate.core.loading import Entry, load
from bedplate.core.settings import with_environment
from bedplate.data.online.protocol import OnlineEngine

ENGINES: Mapping[str, Entry] = {
    "sqlite": Entry("bedplate.data.engines.sqlite:opened", "a file, embedded"),
    "redis": Entry("bedplate.data.engines.redis:opened", "a Redis server", "redis"),
    "rediss": Entry("bedplate.data.engines.redis:opened", "a Redis server over TLS", "redis"),
    "postgres": Entry("bedplate.data.engines.postgres:opened", "a Postgres server", "postgres"),
    "postgresql": Entry("bedplate.data.engines.postgres:opened", "a Postgres server", "postgres"),
}


def open_engine(address: str) -> OnlineEngine:
    """The engine of an address, after what it names of the environment is put in.

    Raises NotFound for an unknown scheme, DataError for a variable that is not set, Unavailable where an extra is not installed or the
    server does not answer.
    """
    scheme, separator, _ = address.partition("://")
    if not separator:
        raise DataError("a store's address has no scheme", value=address, fix=f"write one of {', '.join(ENGINES)}://...")
    opened: OnlineEngine = load(ENGINES, scheme, "online store")(with_environment(address))
    return opened
