"""Options and fixtures for all tests: a home of their own for every test, and the number of kills of the crash sweep."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="kills of the crash sweep (make soak: 200)")
    parser.addoption("--crash-seed", type=int, default=20130101, help="seed of the crash sweep")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the keys of the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("BEDPLATE_HOME", str(home))
    monkeypatch.delenv("BEDPLATE_STATE", raising=False)
    return home
