"""A file at another place: shared where that can be, whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from bedplate.data.trees.link import beside, linked


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"bytes")
    return tmp_path / "source"


def test_a_hardlink_is_the_same_file_and_a_copy_is_not(source: Path, tmp_path: Path) -> None:
    assert linked(source, tmp_path / "hard", ["hardlink", "copy"], 0o640) == "hardlink"
    assert linked(source, tmp_path / "copy", ["copy"], 0o640) == "copy"
    assert (tmp_path / "hard").samefile(source)
    assert not (tmp_path / "copy").samefile(source)
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "hard", "source"]


def test_the_next_kind_is_taken_where_one_cannot_be(source: Path, tmp_path: Path) -> None:
    how = linked(source, tmp_path / "target", ["reflink", "hardlink"], 0o444)
    assert how in ("reflink", "hardlink")
    assert (tmp_path / "target").read_bytes() == b"bytes"
    other = Path("/dev/shm")
    if other.is_dir() and other.stat().st_dev != tmp_path.stat().st_dev:
        far = other / f"bedplate-{os.getpid()}"
        assert linked(source, far, ["reflink", "hardlink"], 0o444) == "copy"
        far.unlink()


def test_an_existing_target_is_replaced_and_a_failure_leaves_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(FileNotFoundError):
        linked(tmp_path / "absent", target, ["hardlink"], 0o444)
    with pytest.raises(ValueError, match="stop"), beside(target) as name:
        name.write_bytes(b"half")
        raise ValueError("stop")
    assert target.read_bytes() == b"before"
    linked(source, target, ["copy"], 0o444)
    assert target.read_bytes() == b"bytes"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]
