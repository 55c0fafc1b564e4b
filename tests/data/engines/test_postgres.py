"""The address of a store in Postgres: what is wrong with it is said without its password."""

from __future__ import annotations

import pytest

from bedplate.core.errors import Unavailable
from bedplate.data.online.open import open_engine
from servers.testbed import databases


def test_a_wrong_password_is_refused_and_not_repeated(postgres: databases.Postgres) -> None:
    wrong = postgres.url.replace(postgres.password, "a-wrong-guess")
    with pytest.raises(Unavailable) as caught:
        open_engine(wrong)
    assert "password" in caught.value.one_line() and "guess" not in caught.value.one_line()


def test_nobody_at_the_address(postgres: databases.Postgres) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        open_engine(postgres.url.replace(str(postgres.port), "1"))


def test_a_password_is_named_not_written(postgres: databases.Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", postgres.password)
    engine = open_engine(postgres.url.replace(postgres.password, "${STORE_PASSWORD}"))
    assert engine.get([b"nothing here"]) == [None]
    engine.close()
