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


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/abs/x", "/abs/x"),
        ("rel/x", "/base/rel/x"),
        ("./rel", "/base/rel"),
        ("", "/base"),
        ("file:///abs/a%23b", "/abs/a#b"),
        ("file:/abs/x", "/abs/x"),
        ("file://localhost/abs", "/abs"),
        ("gs://bucket/x", None),
        ("mlflow-artifacts:/1/x", None),
        ("https://host/x", None),
        ("dbfs:/x", None),
    ],
)
def test_which_addresses_are_folders_of_this_machine(uri: str, path: str | None) -> None:
    found = local_path(uri, Path("/base"))
    assert (found if found is None else str(found)) == path


def test_files_are_listed_in_the_order_of_their_names_without_empty_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a.txt", "a/b/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty").mkdir()
    assert [each.name for each in listed(str(tmp_path), Path("/"))] == ["a.txt", "a/b/c.txt", "a/z.txt", "b.txt"]
    assert listed(str(tmp_path / "b.txt"), Path("/")) == [], "a file is no folder of files"


@pytest.mark.parametrize("name", ["../secret", "deep/../../secret", "/etc/hostname"])
def test_no_name_leads_out_of_its_place(tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    with pytest.raises(BedplateError):
        fetched("in", tmp_path, name, tmp_path / "out" / "x")
    assert not (tmp_path / "out" / "x").exists()
