"""`bedplate data pull`: the files are there again, and nobody's own are overwritten without --force."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_files_come_back_from_the_remote(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one")
    bedplate(tmp_path, "data", "add", "f")
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../remote\n")
    bedplate(tmp_path, "data", "push")
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    (tmp_path / "f").unlink()
    assert bedplate(tmp_path, "data", "pull").stdout == "1 of 1 objects fetched; 1 files written, 0 removed\n"
    assert (tmp_path / "f").read_bytes() == b"one"
    (tmp_path / "f").unlink()
    (tmp_path / "f").write_bytes(b"my own")
    assert "a file would be lost" in refused(tmp_path, "data", "pull")
    assert as_json(tmp_path, "data", "pull", "f", "--force")["written"] == 1
