"""`bedplate data get`: a copy elsewhere, to be changed."""

from __future__ import annotations

from pathlib import Path

from cli.kit import bedplate, refused


def test_a_folder_is_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"one")
    bedplate(tmp_path, "data", "add", "t")
    out = tmp_path / "out"
    assert bedplate(tmp_path, "data", "get", "t", "--out", str(out)).stdout == f"{out}: 1 files\n"
    (out / "a").write_bytes(b"mine")
    assert (tmp_path / "t" / "a").read_bytes() == b"one"
    assert "the place is taken" in refused(tmp_path, "data", "get", "t", "--out", str(out))
    assert "the path is not tracked" in refused(tmp_path, "data", "get", "u", "--out", str(tmp_path / "v"))
