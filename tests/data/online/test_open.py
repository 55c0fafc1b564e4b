"""Addresses of stores: schemes, variables of the environment, and what is said when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import DataError, NotFound, SpecError
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.open import ENGINES, open_engine


def test_a_file_is_opened_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteEngine.create(tmp_path / "online.db").close()
    monkeypatch.setenv("STORE_FOLDER", str(tmp_path))
    engine = open_engine("sqlite://${STORE_FOLDER}/online.db")
    assert engine.get([b"nothing"]) == [None]
    engine.close()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("redsi://host", NotFound, "no such online store.*did you mean 'redis'"),
        ("host:6379", DataError, "no scheme"),
        ("redis://:${NO_SUCH_VARIABLE}@host", SpecError, r"not set \(got 'NO_SUCH_VARIABLE'\)\. Fix: export NO_SUCH_VARIABLE"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(address: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_engine(address)


def test_every_database_but_the_embedded_one_names_its_extra() -> None:
    assert {scheme: entry.extra for scheme, entry in ENGINES.items()} == {
        "sqlite": None,
        "redis": "redis",
        "rediss": "redis",
        "postgres": "postgres",
        "postgresql": "postgres",
    }
