"""The files of a tree with their stamps, and their digests, hashed in threads.

A link to a file inside the project counts as that file, as with DVC; other links, and what is neither file nor folder, are refused.
Does not know: what was hashed before.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bedplate.core.errors import DataError, NotFound
from bedplate.data.trees import ignore
from bedplate.data.trees.parallel import in_batches
from bedplate.data.trees.state import Stamp, stamp

BLOCK_BYTES = 1 << 20

Progress = Callable[[int], None]  # is told how many bytes more are done, from any thread


class Found(NamedTuple):
    """One file: its path below the root, its stamp, whether it may be executed, and whether a link led to it."""

    path: str
    stamp: Stamp
    executable: bool
    is_link: bool


def scan(root: Path, target: str) -> list[Found]:
    """All files of the folder `target` below the project's root, or that one file. Raises NotFound, and DataError for what is no file."""
    path = root / target
    if path.is_symlink() or not path.exists():
        raise NotFound("no such file or folder, or a link", value=str(path), fix="name a file or folder of the project")
    if not path.is_dir():
        return [_file(root, str(path), target, path.lstat())]
    found: list[Found] = []
    _below(root, target, _rules(root, target), found)
    return found


def digests(root: Path, files: Sequence[Found], progress: Progress) -> list[str]:
    """The MD5 of each file. Raises DataError for one that changes meanwhile."""

    base = str(root)

    def hashed(batch: slice) -> list[str]:
        return [_hashed(f"{base}/{found.path}", found, progress) for found in files[batch]]

    return [md5 for batch in in_batches(hashed, [found.stamp.size_bytes for found in files]) for md5 in batch]


def _hashed(full: str, found: Found, progress: Progress) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    descriptor = os.open(full, os.O_RDONLY)
    try:
        if found.stamp.size_bytes <= BLOCK_BYTES:
            digest.update(os.read(descriptor, BLOCK_BYTES + 1))
        else:
            block = memoryview(bytearray(BLOCK_BYTES))
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                while count := file.readinto(block):
                    digest.update(block[:count])
        if stamp(os.fstat(descriptor)) != found.stamp:
            raise DataError("a file changes while it is read", value=found.path, fix="let its writer end first")
    finally:
        os.close(descriptor)
    progress(found.stamp.size_bytes)
    return digest.hexdigest()


def _rules(root: Path, target: str) -> list[ignore.Rule]:
    """What the `.dvcignore` files of the root and of the folders down to the target say."""
    known: list[ignore.Rule] = []
    base = ""
    for part in target.split("/"):
        file = root / base / ignore.FILE
        if file.is_file():
            known += ignore.rules(file.read_text("utf-8"), base)
        base += f"{part}/"
    return known


def _below(root: Path, folder: str, known: list[ignore.Rule], found: list[Found]) -> None:
    with os.scandir(root / folder) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}"
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in ignore.ALWAYS or (known and ignore.ignores(known, path, is_folder)):
                continue
            if is_folder:
                _below(root, path, known, found)
            elif entry.name == ignore.FILE:
                raise DataError("a tree holds a .dvcignore", value=path, fix="move it to a folder above the tree")
            else:
                found.append(_file(root, entry.path, path, entry.stat(follow_symlinks=False)))


def _file(root: Path, full: str, path: str, found: os.stat_result) -> Found:
    is_link = stat.S_ISLNK(found.st_mode)
    if is_link:
        found = _followed(root, full, path)
    if not stat.S_ISREG(found.st_mode):
        raise DataError("neither a file nor a folder", value=path, fix="remove it, or leave it out with .dvcignore")
    if not path.isascii():
        _check_name(path)
    return Found(path, stamp(found), bool(found.st_mode & stat.S_IXUSR), is_link)


def _followed(root: Path, full: str, path: str) -> os.stat_result:
    target = Path(full).resolve()
    if not target.is_relative_to(root.resolve()):
        raise DataError("a link leads outside the project", value=path, fix="copy the file, or leave it out with .dvcignore")
    try:
        return target.stat()
    except OSError as error:
        raise DataError("a link leads nowhere", value=path, fix="remove it, or leave it out with .dvcignore") from error


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataError("a file's name is not UTF-8", value=path, fix="rename it") from error
