"""The folder: whole or not there, never over something, and every file accounted for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.errors import BedplateError
from bedplate.models import dsse
from bedplate.models.evidence.folder import STATEMENT_FILE, SUMS_FILE, encoded, listed, present, sums, write

FILES = {"a.md": b"one", "data/b.md": b"two"}
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def test_every_file_is_in_the_statement_and_the_sums(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    out = tmp_path / "evidence"
    write(out, FILES, {"model/w": tmp_path / "weights"}, {"version": "price@2"}, KEY)
    assert present(out) == [SUMS_FILE, "a.md", STATEMENT_FILE, "data/b.md", "model/w"]
    said = dsse.verify(json.loads((out / STATEMENT_FILE).read_bytes()), KEY.public_key())
    assert {each["name"]: each["digest"]["sha256"] for each in said["subject"]} == listed(out)
    assert set(listed(out)) == {"a.md", "data/b.md", "model/w"}
    assert said["predicate"] == {"version": "price@2"}
    assert (out / SUMS_FILE).read_text() == sums(out)


def test_other_tools_read_the_sums(tmp_path: Path) -> None:
    out = tmp_path / "evidence"
    write(out, FILES, {}, {}, KEY)
    check = ["sha256sum", "--check", "--strict", SUMS_FILE]
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 0
    (out / "a.md").write_bytes(b"One")
    assert subprocess.run(check, cwd=out, capture_output=True, check=False).returncode == 1


def test_the_same_files_make_the_same_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, FILES, {}, {"version": "x"}, KEY)
    assert sums(tmp_path / "one") == sums(tmp_path / "two")


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_nothing_is_written_over(tmp_path: Path, there: str) -> None:
    out = tmp_path / "evidence"
    if there == "folder":
        out.mkdir()
    elif there == "file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BedplateError, match="exists already"):
        write(out, FILES, {}, {}, KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


def test_a_file_that_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "evidence", FILES, {"model/w": tmp_path / "gone"}, {}, KEY)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from bedplate.models.evidence.folder import write
print("ready", flush=True)
for number in range(10_000):
    write(Path(sys.argv[1]) / f"evidence-{number}", {f"f{i}": b"x" * 1000 for i in range(40)}, {}, {}, Ed25519PrivateKey.generate())
"""


def test_killed_at_any_instant_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.4)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    folders = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert folders
    for folder in folders:
        assert (folder / SUMS_FILE).read_text() == sums(folder)
        assert len(present(folder)) == 42


def test_json_is_readable_and_always_the_same() -> None:
    assert encoded({"b": 1, "a": "ä"}) == '{\n "a": "ä",\n "b": 1\n}\n'.encode()
