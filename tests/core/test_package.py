"""A version's folder: sealed, checked whole, and a tombstone where it was removed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.errors import BedplateError, CheckpointError, NotFound
from bedplate.core.package import MANIFEST_FILE, beside, open_package, read_file, remove, seal, sha256_file


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "model"
    with beside(folder) as made:
        (made / "weights.bin").write_bytes(b"weights")
        (made / "deep").mkdir()
        (made / "deep" / "config.json").write_text("{}")
        digest, manifest = seal(made, {"params": {"lr": 0.1}})
    assert set(manifest["files"]) == {"weights.bin", "deep/config.json"}
    return folder, digest


def test_a_manifest_names_every_file_and_is_named_by_its_own_digest(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    manifest = open_package(folder, digest)
    assert manifest["params"] == {"lr": 0.1}
    assert manifest["files"]["weights.bin"] == {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}
    assert digest == sha256_file(folder / MANIFEST_FILE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), which=st.integers(0, 2))
def test_any_changed_bit_of_any_file_is_found_and_the_file_named(sealed: tuple[Path, str], place: int, bit: int, which: int) -> None:
    folder, digest = sealed
    file = sorted(path for path in folder.rglob("*") if path.is_file())[which]
    kept = file.read_bytes()
    data = bytearray(kept)
    data[place % len(data)] ^= 1 << bit
    file.write_bytes(bytes(data))
    try:
        with pytest.raises(CheckpointError, match=file.name):
            open_package(folder, digest)
    finally:
        file.write_bytes(kept)
    open_package(folder, digest)


def test_a_file_that_is_gone_or_a_manifest_that_leads_outside_is_refused(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    (folder / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"missing or damaged.*weights\.bin"):
        open_package(folder, digest)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["files"] = {"../outside": {"sha256": "0" * 64, "bytes": 1}}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BedplateError, match="leads outside"):
        open_package(folder)
    with pytest.raises(CheckpointError, match=r"cannot be read.*nothing\.json"):
        read_file(folder, "nothing.json")


def test_a_link_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").symlink_to("/etc/hostname")
    with pytest.raises(BedplateError, match="holds a link"):
        seal(tmp_path / "model", {})


def test_a_block_that_fails_leaves_what_was_there_before(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    with pytest.raises(RuntimeError), beside(folder) as made:
        (made / "half").write_text("half")
        raise RuntimeError("killed")
    open_package(folder, digest)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_removed_version_says_who_removed_it_and_why(sealed: tuple[Path, str]) -> None:
    folder, digest = sealed
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    tombstone = {"ref": "delay@3", "by": "ann", "reason": "trained on what we must not use"}
    assert remove(folder, tombstone) == size
    assert [path.name for path in folder.iterdir()] == ["removed.json"]
    with pytest.raises(NotFound, match=r"delay@3 was removed by ann: trained on what we must not use"):
        open_package(folder, digest)
    remove(folder, tombstone)  # once more changes nothing
    with pytest.raises(NotFound, match="was removed by ann"):
        open_package(folder)


def test_an_output_of_one_file_can_be_removed_and_one_that_is_gone_already(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"12345")
    assert remove(tmp_path / "one", {"ref": "a@1", "by": "ann", "reason": "x"}) == 5
    assert remove(tmp_path / "two", {"ref": "a@2", "by": "ann", "reason": "x"}) == 0
    for name in ("one", "two"):
        with pytest.raises(NotFound, match="was removed by ann: x"):
            open_package(tmp_path / name)
