"""The code of a step: imports followed inside the project, globs, packages, snapshots, git."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from pathlib import Path

import pytest

from bedplate.core.digest import digest_file
from bedplate.core.errors import SpecError
from bedplate.flow.closure import closure, snapshot


def project(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


MODULES = {
    "train.py": "import os\nimport numpy as np\nfrom lib import net\nimport lib.data.load\n",
    "lib/__init__.py": "",
    "lib/net.py": "from . import shared\nfrom .data import load\n",
    "lib/shared.py": "X = 1\n",
    "lib/data/__init__.py": "",
    "lib/data/load.py": "import yaml\n",
    "lib/unused.py": "",
    "README.md": "hello",
    "sql/a.sql": "select 1",
}


def test_imports_are_followed_inside_the_project_and_nothing_else_is_taken(tmp_path: Path) -> None:
    found = closure(project(tmp_path, MODULES), ["train.py"], [])
    assert found.files == ("lib/__init__.py", "lib/data/__init__.py", "lib/data/load.py", "lib/net.py", "lib/shared.py", "train.py")


def test_packages_are_named_with_their_versions(tmp_path: Path) -> None:
    found = dict(closure(project(tmp_path, MODULES), ["train.py"], []).packages)
    assert found == {"numpy": importlib.metadata.version("numpy"), "PyYAML": importlib.metadata.version("PyYAML")}


def test_a_change_in_an_imported_file_changes_the_digest_and_one_elsewhere_does_not(tmp_path: Path) -> None:
    root = project(tmp_path, MODULES)
    before = closure(root, ["train.py"], [])
    (root / "README.md").write_text("other")
    (root / "lib/unused.py").write_text("Y = 2")
    assert closure(root, ["train.py"], []) == before
    (root / "lib/shared.py").write_text("X = 2\n")
    assert closure(root, ["train.py"], []).digest != before.digest


def test_globs_add_files(tmp_path: Path) -> None:
    root = project(tmp_path, MODULES)
    assert "sql/a.sql" in closure(root, ["train.py"], ["sql/*.sql"]).files


def test_a_missing_entry_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.py"):
        closure(tmp_path, ["nothing.py"], [])


def test_bad_python_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"bad\.py:2"):
        closure(project(tmp_path, {"bad.py": "x = 1\ndef f(:\n"}), ["bad.py"], [])


def test_a_snapshot_holds_the_files_as_they_were(tmp_path: Path) -> None:
    root, store = project(tmp_path / "p", MODULES), tmp_path / "store"
    code = closure(root, ["train.py"], ["sql/*"])
    facts = snapshot(root, store, code)
    (root / "train.py").write_text("changed")
    kept = store / facts["snapshot"]
    assert (kept / "train.py").read_text() == MODULES["train.py"]
    assert sorted(path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()) == sorted(code.files)
    assert snapshot(root, store, code)["snapshot"] == facts["snapshot"], "a second snapshot of the same code is the first"


def test_a_git_work_tree_gives_commit_and_dirty_diff(tmp_path: Path) -> None:
    root, store = project(tmp_path / "p", MODULES), tmp_path / "store"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    clean = snapshot(root, store, closure(root, ["train.py"], []))
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is None
    (root / "train.py").write_text(MODULES["train.py"] + "Z = 3\n")
    dirty = snapshot(root, store, closure(root, ["train.py"], []))
    assert dirty["commit"] == clean["commit"]
    assert "+Z = 3" in json.loads((store / f"{dirty['dirty']}.diff").read_text())


def test_outside_git_the_commit_is_unknown(tmp_path: Path) -> None:
    root = project(tmp_path / "p", {"a.py": ""})
    assert snapshot(root, tmp_path / "store", closure(root, ["a.py"], []))["commit"] is None


def test_a_snapshot_says_the_digest_of_every_file(tmp_path: Path) -> None:
    root = project(tmp_path / "p", MODULES)
    made = snapshot(root, tmp_path / "store", closure(root, ["train.py"], []))
    assert made["digests"] == {name: digest_file(tmp_path / "store" / made["snapshot"] / name) for name in made["files"]}
    (root / "train.py").write_text(MODULES["train.py"] + "Z = 4\n")
    again = snapshot(root, tmp_path / "store", closure(root, ["train.py"], []))
    assert {name for name in made["files"] if made["digests"][name] != again["digests"][name]} == {"train.py"}
