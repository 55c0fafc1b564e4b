"""Fixtures of the command line's tests: a quick project for each test, and one whole project that is brought up once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, processes_of, wait_until, write_hello
from crash.small_project import write_small_project


@pytest.fixture
def hello(tmp_path: Path) -> Iterator[Path]:
    """A project with one quick job. Nothing of it is left running."""
    folder = write_hello(tmp_path / "hello")
    yield folder
    if processes_of(folder):
        bedplate(folder, "down")
        wait_until(lambda: not processes_of(folder))


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, str]]:
    """A project with every noun, brought up once: its folder, the home of its keys, and what `up` said."""
    folder = write_small_project(tmp_path_factory.mktemp("whole") / "small")
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_HOME", str(home))
        patch.delenv("BEDPLATE_STATE", raising=False)
        try:
            done = bedplate(folder, "up")
            assert done.returncode == 0, done.stdout + done.stderr
            yield folder, home, done.stderr + done.stdout
        finally:
            assert bedplate(folder, "down").returncode == 0
            assert bedplate(folder, "ps").stdout.startswith("nothing is running")
            assert not processes_of(folder)


@pytest.fixture
def whole(up: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the whole project, for a test that uses the keys with which its ledger was signed."""
    monkeypatch.setenv("BEDPLATE_HOME", str(up[1]))
    return up[0]


@pytest.fixture
def still(whole: Path, up: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the whole project and of the home of its keys, in which nothing runs: for a test that changes what is kept."""
    shutil.copytree(whole, tmp_path / "still", symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    shutil.copytree(up[1], tmp_path / "home", dirs_exist_ok=True)
    monkeypatch.setenv("BEDPLATE_HOME", str(tmp_path / "home"))
    return tmp_path / "still"


@pytest.fixture
def experiment(whole: Path) -> str:
    """A version of the whole project's model that an experiment made (by the first test that asks for it)."""
    bedplate(whole, "run", "fit", "--set", "epochs=1")
    [run] = [run for run in as_json(whole, "runs", "fit") if str(run["params"]["epochs"]) == "1"]
    return str(run["outputs"][0])
