"""Files of a store: in folders here; object stores are in test_sources.py, with a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError
from bedplate.models.foreign.places import fetched, listed, local_path
from bedplate.models.foreign.records import Artifact


def test_folders_by_path_by_url_and_below_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "x.txt").write_text("hello")
    for uri in (str(folder), f"file://{tmp_path}/a%20b", "a b"):
        assert listed(uri, tmp_path) == [Artifact("deep/x.txt", 5)]
        fetched(uri, tmp_path, "deep/x.txt", tmp_path / "out" / "x")
        assert (tmp_path / "out" / "x").read_text() == "hello"
    assert listed("nothing here", tmp_path) == []
    assert local_path("s3://bucket/x", tmp_path) is None


def test_a_name_that_leads_out_and_a_place_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(BedplateError, match="leads outside"):
        fetched("in", tmp_path, "../secret", tmp_path / "out")
    with pytest.raises(DataError, match=r"cannot be read here.*'ftp://host/x'"):
        listed("ftp://host/x", tmp_path)
