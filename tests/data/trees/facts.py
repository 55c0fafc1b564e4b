"""A small tree, and what DVC 3.66.1 made of it (`dvc add images weights.bin`, `dvc push` to a folder); and how tests write such trees."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bedplate.data.trees.adding import add
from bedplate.data.trees.repository import Repository

FILES = {"a.txt": b"one", "b/again": b"one", "b/two.txt": b"two\r\n", "empty": b"", "ä/ü x.txt": b"three"}
MANIFEST = (
    b'[{"md5": "f97c5d29941bfb1b2fdab0874906ab82", "relpath": "a.txt"}, {"md5": "f97c5d29941bfb1b2fdab0874906ab82", "relpath": "b/again"}'
    b', {"md5": "11fb069f7f29124c833020fb42120d64", "relpath": "b/two.txt"}, '
    b'{"md5": "d41d8cd98f00b204e9800998ecf8427e", "relpath": "empty"}'
    b', {"md5": "f97c5d29941bfb1b2fdab0874906ab82", "relpath": "link"}, '
    b'{"md5": "35d6d33467aae9a2e3dccb4b6b027878", "relpath": "\\u00e4/\\u00fc x.txt"}]'
)
IMAGES = "outs:\n- md5: 80685e5073a7ab27937cdccf4eec41e3.dir\n  size: 19\n  nfiles: 6\n  hash: md5\n  path: images\n"
WEIGHTS = "outs:\n- md5: 1217fd4971e71ce70af847b263aeac57\n  size: 4\n  isexec: true\n  hash: md5\n  path: weights.bin\n"
OBJECTS = {
    "11/fb069f7f29124c833020fb42120d64",
    "12/17fd4971e71ce70af847b263aeac57",
    "35/d6d33467aae9a2e3dccb4b6b027878",
    "80/685e5073a7ab27937cdccf4eec41e3.dir",
    "d4/1d8cd98f00b204e9800998ecf8427e",
    "f9/7c5d29941bfb1b2fdab0874906ab82",
}


def write_facts(root: Path) -> Path:
    """The tree, the file, and a `.dvcignore`, in a git repository."""
    write(root / "images", {**FILES, "x.tmp": b"skip"})
    (root / "images" / "b" / "two.txt").chmod(0o755)
    (root / "images" / "link").symlink_to("a.txt")
    write(root, {"weights.bin": b"\0bin", ".dvcignore": b"*.tmp\n"})
    (root / "weights.bin").chmod(0o755)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Files, old enough to be known by their times."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def added(root: Path, *targets: str) -> Repository:
    """A repository in which those paths are added."""
    repository = Repository.open(root, make=True)
    for target in targets:
        add(repository, target, quiet)
    return repository


def quiet(_: int) -> None:
    """No progress."""


def with_remote(repository: Repository, url: str, **settings: str) -> Repository:
    """The same repository with a default remote `store`."""
    lines = [f"    {name} = {value}" for name, value in {"url": url, **settings}.items()]
    file = repository.root / ".dvc" / "config"
    file.write_text("\n".join(["[core]", "    remote = store", "['remote \"store\"']", *lines, ""]))
    return Repository.open(repository.root)


def objects(folder: Path) -> set[str]:
    """What lies in a cache or a remote, by path below `files/md5`; nothing half-written may be among it."""
    base = folder / "files" / "md5"
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
