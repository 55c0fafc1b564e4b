"""Fixtures of the flow's tests: a simulated project for each test, and one real one that is brought up once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.flow.opened import OpenProject, open_project
from crash.small_project import write_small_project
from flow.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh simulated project."""
    made = World(tmp_path / "shop")
    yield made
    made.close()


@pytest.fixture
def clean_imports() -> Iterator[None]:
    """A step's work puts the user's code on the import path: take it off, and forget the modules that came from there."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or sys.prefix
        if not file.startswith((sys.prefix, sys.base_prefix)) and not name.startswith("bedplate"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, OpenProject]]:
    """A real project from stream to endpoint, brought up once by real processes: its folder, and the project, open.

    One worker trains, and writes a file that the job declares.
    """
    folder = write_small_project(tmp_path_factory.mktemp("served") / "small")
    declared = (folder / "bedplate.yaml").read_text().replace("resources: {workers: 2}", "outputs: [notes.txt]")
    (folder / "bedplate.yaml").write_text(declared)
    code = (
        (folder / "fit.py")
        .read_text()
        .replace("    return run.save(model)", "    Path('notes.txt').write_text('done')\n    return run.save(model)")
    )
    (folder / "fit.py").write_text("from pathlib import Path\n" + code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("BEDPLATE_STATE", raising=False)
        with open_project(folder) as project:
            try:
                project.up()
                yield folder, project
            finally:
                project.down()
