"""`bedplate data add`: a `.dvc` file beside the path, said in one line; with --chunked only what changed."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(b"one")
    done = bedplate(tmp_path, "data", "add", "images")
    assert done.stdout == "images: 1 files, 3 bytes, 1 new in the cache\n"
    assert (tmp_path / "images.dvc").exists()
    [again] = as_json(tmp_path, "data", "add", "images")["added"]
    assert (again["changed"], again["tracked"]["nfiles"], again["lost"]) == (False, 1, [])


def test_a_path_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "x").touch()
    assert "not a path inside the project" in refused(tmp_path / "p", "data", "add", "../x")
    assert "no such file or folder" in refused(tmp_path / "p", "data", "add", "x")


def test_a_large_file_is_kept_by_its_chunks(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    said = bedplate(tmp_path, "data", "add", "--chunked", "f").stdout
    assert said.startswith("f: 3,000,000 bytes in 3 chunks; ")
    assert as_json(tmp_path, "data", "get", "f", "--out", "g")["files"] == 1
    assert (tmp_path / "g").read_bytes() == b"x" * 3_000_000
