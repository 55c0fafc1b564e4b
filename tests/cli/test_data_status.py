"""`bedplate data status`: what changed, file by file, long lists cut."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_changes_are_listed(tmp_path: Path) -> None:
    assert "no file trees are kept here" in refused(tmp_path, "data", "status")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"one")
    bedplate(tmp_path, "data", "add", "t")
    assert bedplate(tmp_path, "data", "status").stdout == "t: unchanged\n"
    for number in range(12):
        (tmp_path / "t" / f"n{number:02}").touch()
    (tmp_path / "t" / "a").unlink()
    lines = bedplate(tmp_path, "data", "status", "t").stdout.splitlines()
    assert lines[:2] == ["t: changed", "  added     t/n00"]
    assert lines[-2:] == ["  added     and 2 more", "  deleted   t/a"]
    [tree] = as_json(tmp_path, "data", "status")["trees"]
    assert (tree["state"], len(tree["added"]), tree["deleted"]) == ("changed", 12, ["t/a"])
