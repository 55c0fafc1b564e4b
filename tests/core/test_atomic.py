"""Files are whole or not there: also when the writer is killed, when it fails half way, and when several write."""

from __future__ import annotations

import json
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bedplate.core.atomic import confined, replacing, sync, write_bytes, write_json
from bedplate.core.errors import BedplateError

SEED = 20130101
WRITE_FOR_EVER = """
import sys
from pathlib import Path
from bedplate.core.atomic import write_bytes
path = Path(sys.argv[1])
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    number += 1
    write_bytes(path, bytes([number % 251]) * 300_000)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"")
    assert path.read_bytes() == b""
    assert names(path.parent) == ["file"]


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    write_bytes(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_json_is_readable_and_the_same_for_equal_values(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    write_json(tmp_path / "b.json", {"a": [1, 2], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, 2], "b": 1}
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bytes(tmp_path / "folder", b"a folder stands in the way")
    (tmp_path / "kept.json").write_text("old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "kept.json", object())
    assert names(tmp_path) == ["folder", "kept.json"]
    assert (tmp_path / "kept.json").read_text() == "old"


@pytest.mark.crash
def test_a_writer_killed_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"\0" * 300_000)
    rng = random.Random(SEED)
    seen = set()
    for kill in range(6):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(path), str(kill * 40)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.03))
            writer.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) == 300_000, f"seed {SEED}, kill {kill}"
        assert len(set(data)) == 1, f"seed {SEED}, kill {kill}: two writes are mixed"
        seen.add(data[0])
    assert len(seen) > 1  # the writers did write


def test_writers_of_one_file_do_not_disturb_one_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    script = (
        "import sys; from pathlib import Path; from bedplate.core.atomic import write_bytes\n"
        "for _ in range(30): write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 50_000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), letter]) for letter in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert path.read_bytes() in (b"a" * 50_000, b"b" * 50_000)
    assert names(tmp_path) == ["file"]


def test_syncing_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nowhere")


@pytest.mark.parametrize("relative", ["a", "a/b", "a/../b", ".", "", "a//b/./c", "..a"])
def test_a_path_inside(tmp_path: Path, relative: str) -> None:
    assert confined(tmp_path, relative).is_relative_to(tmp_path)


@pytest.mark.parametrize("relative", ["..", "../x", "a/../../x", "/etc/passwd", "link/x", "link", "a\0b", "circle/x"])
def test_a_path_that_leads_outside_or_nowhere(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(BedplateError) as caught:
        confined(root, relative)
    assert caught.value.value == relative
    assert str(root) in (caught.value.fix or "")


def test_a_neighbor_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root-2").mkdir()
    with pytest.raises(BedplateError, match="outside"):
        confined(tmp_path / "root", "../root-2/file")


def test_a_file_written_in_pieces_is_there_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"one two"


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fails() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError("enough")

    with pytest.raises(KeyError):
        fails()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
