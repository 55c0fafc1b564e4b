"""Whether a version is as it was made: each kind by what names its bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.core.digest import digest_file
from bedplate.core.package import seal
from bedplate.core.versions import Version, VersionKind
from bedplate.flow.intact import damage


def version(kind: VersionKind, digest: str = "0" * 64) -> Version:
    return Version("it", 1, kind, digest, "it", "run-1", 0.0)


def test_a_file_is_named_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1")
    made = version("file", digest_file(file))
    assert damage(file, made) == ""
    file.write_text("2")
    assert damage(file, made) == "the file rows.csv changed"


def test_a_model_is_named_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"123")
    digest, _ = seal(tmp_path, {})
    assert damage(tmp_path, version("model", digest)) == ""
    assert "manifest was changed" in damage(tmp_path, version("model"))
    (tmp_path / "weights").write_bytes(b"124")
    assert "a model's file is missing or damaged" in damage(tmp_path, version("model", digest))


@pytest.mark.parametrize(("kind", "manifest"), [("training_set", "manifest.json"), ("view", "view.json")])
def test_a_training_set_and_a_view_have_the_digests_of_their_files(tmp_path: Path, kind: VersionKind, manifest: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / manifest).write_text(json.dumps({"files": {"a.bin": digest_file(tmp_path / "a.bin")}}))
    assert damage(tmp_path, version(kind)) == ""
    (tmp_path / "a.bin").write_bytes(b"2")
    assert damage(tmp_path, version(kind)) == "the file a.bin changed"
    (tmp_path / "a.bin").unlink()
    assert damage(tmp_path, version(kind)) == "the file a.bin is missing"


def test_a_cut_is_the_lakes_to_keep(tmp_path: Path) -> None:
    assert damage(tmp_path, version("table")) == ""
