"""`bedplate data push`: what the remote lacks, once."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_objects_are_pushed_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"one")
    bedplate(tmp_path, "data", "add", "f")
    assert "no remote is named" in refused(tmp_path, "data", "push")
    (tmp_path / ".dvc" / "config").write_text("['remote \"store\"']\n    url = ../remote\n")
    assert bedplate(tmp_path, "data", "push", "-r", "store").stdout == "1 of 1 objects pushed to store\n"
    assert as_json(tmp_path, "data", "push", "f", "--remote", "store")["objects"] == 0
    assert "no such remote" in refused(tmp_path, "data", "push", "--remote", "stor")
