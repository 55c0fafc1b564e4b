"""The files of a tree: links inside the project followed, everything strange refused by name, digests those of md5sum."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bedplate.core.errors import DataError, NotFound
from bedplate.data.trees.scan import BLOCK_BYTES, digests, scan
from data.trees.facts import quiet, write, write_facts


def test_files_are_found_with_links_followed_and_ignored_ones_left_out(tmp_path: Path) -> None:
    root = write_facts(tmp_path)
    found = {each.path: each for each in scan(root, "images")}
    assert sorted(found) == [f"images/{name}" for name in ("a.txt", "b/again", "b/two.txt", "empty", "link", "ä/ü x.txt")]
    assert [path for path, each in found.items() if each.executable] == ["images/b/two.txt"]
    assert [path for path, each in found.items() if each.is_link] == ["images/link"]
    assert found["images/link"].stamp == found["images/a.txt"].stamp
    assert [each.path for each in scan(root, "weights.bin")] == ["weights.bin"]


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"x": b"1"})
    root = write(tmp_path / "root", {"t/x": b"1"})
    strange = root / "t" / "strange"
    for make, told in (
        (lambda: strange.symlink_to(outside / "x"), "leads outside the project"),
        (lambda: strange.symlink_to("gone"), "leads nowhere"),
        (lambda: strange.symlink_to(".."), "neither a file nor a folder"),
        (lambda: os.mkfifo(strange), "neither a file nor a folder"),
        (lambda: (root / "t" / ".dvcignore").touch(), "holds a .dvcignore"),
    ):
        make()
        with pytest.raises(DataError, match=told):
            scan(root, "t")
        strange.unlink(missing_ok=True)
    with pytest.raises(NotFound):
        scan(root, "absent")


def test_a_dvcignore_of_a_folder_above_counts(tmp_path: Path) -> None:
    write(tmp_path, {"deep/t/x.log": b"", "deep/t/y": b"", "deep/.dvcignore": b"*.log\n", "t/x.log": b""})
    assert [each.path for each in scan(tmp_path, "deep/t")] == ["deep/t/y"]
    assert [each.path for each in scan(tmp_path, "t")] == ["t/x.log"]


def test_digests_are_md5_in_order_for_small_and_large_files(tmp_path: Path) -> None:
    sizes = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7]
    write(tmp_path, {f"t/{number}": os.urandom(size) for number, size in enumerate(sizes)})
    found, told = scan(tmp_path, "t"), []
    assert digests(tmp_path, found, told.append) == [hashlib.md5((tmp_path / each.path).read_bytes()).hexdigest() for each in found]
    assert sum(told) == sum(sizes)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"x": b"1"})
    found = scan(tmp_path, "x")
    (tmp_path / "x").write_bytes(b"22")
    with pytest.raises(DataError, match="changes while it is read"):
        digests(tmp_path, found, quiet)
