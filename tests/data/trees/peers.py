"""Trees against the real DVC, in an environment of its own (for `make soak`; it installs DVC the first time).

    python tests/data/trees/peers.py

What we add and push, it calls unchanged, pulls and checks out; what it adds and pushes, we do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.peers import python_of  # noqa: E402
from bench.trees import DVC  # noqa: E402

from bedplate.cli.main import main as bedplate  # noqa: E402 - the path is set first
from data.trees.facts import contents, write_facts  # noqa: E402

LINES = "*.log\n!keep.log\nbuild/\n/images/deep/**/skip\n"


def dvc(folder: Path, *words: str) -> str:
    settings = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [python_of("dvc", DVC), "-m", "dvc", *words], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"dvc {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def ours(folder: Path, *words: str) -> None:
    assert bedplate(["data", *words, "-C", str(folder)]) == 0


def made(folder: Path) -> Path:
    """A tree with all that a name, a mode or a rule can do."""
    folder.mkdir()
    root = write_facts(folder)
    (root / ".dvcignore").write_text(f"*.tmp\n{LINES}")
    for name in (
        "x.log",
        "keep.log",
        "build/x",
        "deep/a/b/skip",
        "deep/skip",
        "deep/a/take",
        " space",
        "quote'\"",
        "\n",
        "😀",
        "~",
        "A",
        "a",
    ):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    dvc(root, "init", "-q", "--force")
    (root / ".dvcignore").write_text(f"*.tmp\n{LINES}")
    dvc(root, "remote", "add", "-q", "-d", "store", str(folder.parent / f"{folder.name}-remote"))
    return root


def cloned(root: Path, folder: Path) -> Path:
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns("cache", "tmp", "images", "weights.bin"))
    return folder


def same(one: Path, other: Path) -> None:
    names = ("images.dvc", "weights.bin.dvc", ".gitignore")
    assert [(one / name).read_bytes() for name in names] == [(other / name).read_bytes() for name in names]


def both_ways(scratch: Path) -> None:
    here, there = made(scratch / "ours"), made(scratch / "theirs")
    ours(here, "add", str(here / "images"), str(here / "weights.bin"))
    dvc(there, "add", "-q", "images", "weights.bin")
    same(here, there)
    assert "Data and pipelines are up to date." in dvc(here, "status")
    ours(there, "status")
    ours(here, "push")
    dvc(there, "push", "-q")
    assert contents(scratch / "ours-remote") == contents(scratch / "theirs-remote")
    theirs_from_ours, ours_from_theirs = cloned(here, scratch / "c1"), cloned(there, scratch / "c2")
    dvc(theirs_from_ours, "pull", "-q")
    ours(ours_from_theirs, "pull")
    assert contents(theirs_from_ours / "images") == contents(ours_from_theirs / "images")
    assert "up to date" in dvc(ours_from_theirs, "status")
    print("add, status, push, pull: both ways, equal")


def settings_are_read(scratch: Path) -> None:
    root = made(scratch / "set")
    for kind in ("copy", "hardlink,copy", "reflink,copy"):
        dvc(root, "config", "cache.type", kind)
        ours(root, "add", str(root / "images"))
        assert "up to date" in dvc(root, "status")
    print("cache.type of DVC: read")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        both_ways(Path(folder))
        settings_are_read(Path(folder))
