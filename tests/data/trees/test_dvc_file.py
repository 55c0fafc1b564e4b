"""`.dvc` files: read and written as DVC does, and what people wrote into them kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError
from bedplate.data.trees.dvc_file import Tracked, read, write
from data.trees.facts import IMAGES, WEIGHTS


@pytest.mark.parametrize("text", [IMAGES, WEIGHTS])
def test_a_file_of_dvc_comes_back_byte_for_byte(tmp_path: Path, text: str) -> None:
    (tmp_path / "from.dvc").write_text(text)
    assert write(tmp_path / "to.dvc", read(tmp_path / "from.dvc"))
    assert (tmp_path / "to.dvc").read_text() == text
    assert not write(tmp_path / "to.dvc", read(tmp_path / "from.dvc")), "nothing to write"


def test_what_people_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "images.dvc"
    file.write_text(IMAGES + "  desc: from the airport\n  remote: store\nmeta:\n  owner: ops\n")
    write(file, Tracked("images", "0" * 32 + ".dir", 7, 2))
    assert file.read_text().endswith("path: images\n  desc: from the airport\n  remote: store\nmeta:\n  owner: ops\n")
    assert (read(file).size_bytes, read(file).nfiles, read(file).is_tree) == (7, 2, True)


def test_a_digest_that_looks_like_a_number_is_quoted(tmp_path: Path) -> None:
    for md5 in ("1" * 32, "1" * 20 + "e" + "1" * 11, "0" * 32):
        write(tmp_path / f"{md5}.dvc", Tracked("x", md5, 1))
        assert f"md5: '{md5}'" in (tmp_path / f"{md5}.dvc").read_text()
        assert read(tmp_path / f"{md5}.dvc").md5 == md5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("outs: []\n", "names one file or folder"),
        ("stages: {}\n", "names one file or folder"),
        (IMAGES.replace("  hash: md5\n", ""), "not written by DVC 3"),
        (IMAGES.replace("path: images", "path: ../images"), "is damaged"),
        (IMAGES.replace("80685e", "../etc"), "is damaged"),
        (IMAGES.replace("size: 19", "size: many"), "is damaged"),
        ("outs: [\n", "not valid YAML"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.dvc").write_text(text)
    with pytest.raises(BedplateError, match=told):
        read(tmp_path / "x.dvc")


def test_bytes_are_no_dvc_file(tmp_path: Path) -> None:
    (tmp_path / "x.dvc").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"not a \.dvc file"):
        read(tmp_path / "x.dvc")
