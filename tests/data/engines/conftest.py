"""The three databases of an online store and a Kafka broker, each the real one.

Does not know: what is kept in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.open import open_engine
from bedplate.data.online.protocol import OnlineEngine
from servers.testbed import databases
from servers.testbed.kafka import Kafka, kafka
from servers.testbed.provide import provide


@pytest.fixture(scope="session", name="redis")
def _redis() -> Iterator[databases.Redis]:
    with provide(databases.redis()) as server:
        yield server


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Iterator[databases.Postgres]:
    with provide(databases.postgres()) as server:
        yield server


@pytest.fixture(scope="session", name="kafka")
def _kafka() -> Iterator[Kafka]:
    with provide(kafka()) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], OnlineEngine]]:
    """Opens one more handle on the same, empty database."""
    if request.param == "sqlite":
        SqliteEngine.create(tmp_path / "online.db").close()
        address = f"sqlite://{tmp_path}/online.db"
    else:
        address = request.getfixturevalue(request.param).url
    opened: list[OnlineEngine] = []

    def one() -> OnlineEngine:
        opened.append(open_engine(address))
        return opened[-1]

    yield one
    for page in list(one().scan(b"")):
        opened[-1].commit(b"cleared", None, {}, page)
    for engine in opened:
        engine.close()


@pytest.fixture
def engine(opener: Callable[[], OnlineEngine]) -> OnlineEngine:
    """An engine on an empty database."""
    return opener()
