"""The address of a store in Redis: what is wrong with it is said without its password."""

from __future__ import annotations

import pytest

from bedplate.core.errors import Unavailable
from bedplate.data.online.open import open_engine
from servers.testbed import databases


def test_a_wrong_password_is_refused_and_not_repeated(redis: databases.Redis) -> None:
    wrong = redis.url.replace(redis.password, "a-wrong-guess")
    with pytest.raises(Unavailable) as caught:
        open_engine(wrong)
    assert "password" in caught.value.one_line() and "guess" not in caught.value.one_line()


def test_nobody_at_the_address(redis: databases.Redis) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_engine(redis.url.replace(str(redis.port), "1"))


def test_a_password_is_named_not_written(redis: databases.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", redis.password)
    engine = open_engine(redis.url.replace(redis.password, "${STORE_PASSWORD}"))
    assert engine.get([b"nothing here"]) == [None]
    engine.close()


def test_a_connection_that_was_closed_is_opened_again(redis: databases.Redis) -> None:
    engine = open_engine(redis.url)
    engine.load([(b"kept", b"1")])
    for _ in range(2):
        assert engine.get([b"kept"]) == [b"1"]
        redis.command("client", "kill", "type", "normal")
    assert engine.get([b"kept"]) == [b"1"]
    assert engine.commit(b"kept", b"1", {b"kept": b"2"}, [])
    engine.close()
