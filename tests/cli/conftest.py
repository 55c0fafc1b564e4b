"""Fixtures of the command line's tests: a quick project for each test, and one whole project that is brought up once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.kit import bedplate, write_hello
from crash.small_project import write_small_project


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A project with one quick job."""
    return write_hello(tmp_path / "hello")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with every noun, brought up."""
    folder = write_small_project(tmp_path_factory.mktemp("whole") / "small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_HOME", str(tmp_path_factory.mktemp("home")))
        try:
            done = bedplate(folder, "up")
            (folder / "up.txt").write_text(done.stdout + done.stderr)
            assert done.returncode == 0, done.stdout + done.stderr
            yield folder
        finally:
            assert bedplate(folder, "down").returncode == 0
