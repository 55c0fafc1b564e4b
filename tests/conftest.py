"""Options and fixtures for all tests: a home of their own for every test, and the number of kills of the crash sweep."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from cli.sales import write_sales


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="kills of the crash sweep (make soak: 200)")
    parser.addoption("--save-kills", type=int, default=20, help="kills in the middle of saving a checkpoint (make soak: 500)")
    parser.addoption("--flips", type=int, default=30, help="bits flipped in checkpoints (make soak: 200)")
    parser.addoption("--edits", type=int, default=60, help="seeded edits of what a project keeps (make soak: 1000)")
    parser.addoption("--schedules", type=int, default=20, help="seeded schedules of lost nodes (make soak: 1000)")
    parser.addoption("--crash-seed", type=int, default=20130101, help="seed of the crash sweep")


def pytest_configure() -> None:
    """A suite that a shell starts in the background has Ctrl-C ignored, and so would every process that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
    settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the keys of the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("BEDPLATE_HOME", str(home))
    monkeypatch.delenv("BEDPLATE_STATE", raising=False)
    return home


@pytest.fixture(scope="session")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions of a file's table and of a stream's; nothing of it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("BEDPLATE_STATE", raising=False)
        return write_sales(tmp_path_factory.mktemp("sold") / "sales")


@pytest.fixture
def sales(sold: Path, tmp_path: Path) -> Path:
    """A copy of that project, for one test."""
    shutil.copytree(sold, tmp_path / "sales", symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    return tmp_path / "sales"
