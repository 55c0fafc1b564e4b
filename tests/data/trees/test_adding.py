"""Adding trees: what DVC would write, nothing read twice, nothing lost that was not said to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bedplate.core.errors import DataError, NotFound
from bedplate.data.trees.adding import add, status
from bedplate.data.trees.repository import Repository
from data.trees.facts import IMAGES, OBJECTS, WEIGHTS, added, contents, objects, quiet, write, write_facts


def aged(folder: Path) -> Path:
    """Make the files old enough for their times to be trusted."""
    time.sleep(0.03)
    return folder


def states(repository: Repository) -> dict[str, str]:
    return {each.path: each.state for each in status(repository, [], quiet)}


def test_the_result_is_what_dvc_made_of_the_same_files(tmp_path: Path) -> None:
    root = write_facts(tmp_path)
    added(root, "images", "weights.bin")
    assert (root / "images.dvc").read_text() == IMAGES
    assert (root / "weights.bin.dvc").read_text() == WEIGHTS
    assert (root / ".gitignore").read_text() == "/images\n/weights.bin\n"
    assert objects(root / ".dvc" / "cache") == OBJECTS
    assert not (root / "images" / "link").is_symlink()


def test_nothing_is_read_again_that_did_not_change(tmp_path: Path) -> None:
    root = aged(write_facts(tmp_path))
    repository = added(root, "images")
    assert (root / "images" / "a.txt").stat().st_mode & 0o222 == 0 or (root / "images" / "a.txt").stat().st_nlink == 1, "protected"
    again = add(repository, "images", quiet)
    assert (again.hashed, again.stored, again.changed) == (0, 0, False)
    write(root, {"images/new": b"new"})
    more = add(repository, "images", quiet)
    assert (more.hashed, more.stored, more.changed) == (1, 1, True)


def test_a_cache_that_lost_an_object_gets_it_back(tmp_path: Path) -> None:
    root = aged(write(tmp_path, {"t/x": b"one", "t/y": b"two"}))
    repository = added(root, "t")
    for path in list((root / ".dvc" / "cache").rglob("*")):
        if path.is_file():
            path.unlink()
    assert states(repository) == {"t": "not in cache"}
    assert add(repository, "t", quiet).stored == 2
    assert states(repository) == {"t": "unchanged"}


def test_status_tells_every_difference(tmp_path: Path) -> None:
    root = aged(write(tmp_path, {"t/x": b"one", "t/y": b"two", "t/z": b"three", "f": b"four"}))
    repository = added(root, "t", "f")
    assert states(repository) == {"f": "unchanged", "t": "unchanged"}
    for name in ("x", "y"):
        (root / "t" / name).unlink()
    write(root, {"t/x": b"other", "t/new": b""})
    (root / "f").unlink()
    told = {each.path: each for each in status(repository, [], quiet)}
    assert (told["t"].state, told["t"].added, told["t"].modified, told["t"].deleted) == ("changed", ["t/new"], ["t/x"], ["t/y"])
    assert told["f"].state == "missing"


def test_an_object_that_is_written_through_its_link_is_lost_and_said_to_be(tmp_path: Path) -> None:
    root = aged(write(tmp_path, {"x": b"one"}))
    repository = added(root, "x")
    if (root / "x").stat().st_nlink == 1:
        pytest.skip("this file system shares blocks: a file is no link to its object")
    (root / "x").chmod(0o644)
    (root / "x").write_bytes(b"other")
    result = add(repository, "x", quiet)
    assert result.lost == ("f97c5d29941bfb1b2fdab0874906ab82",)
    assert list(contents(root / ".dvc" / "cache" / "files").values()) == [b"other"]


def test_trees_in_trees_and_absent_paths_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, {"t/in/x": b"1", "u/in/x": b"1"})
    repository = added(root, "t", "u/in")
    for target in ("t/in", "u"):
        with pytest.raises(DataError, match="inside another"):
            add(repository, target, quiet)
    with pytest.raises(NotFound):
        add(repository, "absent", quiet)


def test_an_empty_folder_is_a_tree(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    repository = added(tmp_path, "t")
    assert states(repository) == {"t": "unchanged"}
    assert "nfiles: 0" in (tmp_path / "t.dvc").read_text()


KILLED = """
import sys
from pathlib import Path
from bedplate.data.trees.adding import add
from bedplate.data.trees.repository import Repository
print("ready", flush=True)
add(Repository.open(Path(sys.argv[1]), make=True), "t", lambda _: None)
"""


def test_a_kill_at_any_instant_leaves_whole_objects_and_the_command_ends_it(tmp_path: Path) -> None:
    root = write(tmp_path, {f"t/{number % 7}/{number}": os.urandom(9000) for number in range(800)})
    before = contents(root / "t")
    for delay_s in (0.0, 0.04, 0.1):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for name in objects(root / ".dvc" / "cache"):
            if not name.endswith((".tmp", ".dir")):
                assert (root / ".dvc" / "cache" / "files" / "md5" / name).stat().st_size == 9000
    repository = Repository.open(root, make=True)
    add(repository, "t", quiet)
    assert states(repository) == {"t": "unchanged"}
    assert contents(root / "t") == before
