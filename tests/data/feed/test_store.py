"""Stores that are folders; object stores are in test_streamed.py, with a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.data.feed.store import open_store


def test_a_folder_keeps_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 3_000_000)
    store = open_store(str(tmp_path / "far"))
    assert not store.has("one", 9_000_000)
    store.put("one", tmp_path / "file")
    assert store.has("one", 9_000_000)
    chunks = list(store.chunks("one"))
    assert len(chunks) == 3
    assert b"".join(chunks) == (tmp_path / "file").read_bytes()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["one"]


def test_what_is_not_there_or_cannot_be_written_is_said_with_the_place(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(DataError, match=rf"{tmp_path} cannot be read: .*'two'"):
        list(store.chunks("two"))
    with pytest.raises(DataError, match=rf"{tmp_path} cannot be written"):
        store.put("one", tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_of_store() -> None:
    with pytest.raises(DataError, match=r"no such kind of store.*'ftp://host/place'.*s3://BUCKET"):
        open_store("ftp://host/place")


def test_a_file_that_is_stored_again_is_replaced_whole(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "far"))
    for data in (b"a long first version", b"second"):
        (tmp_path / "file").write_bytes(data)
        store.put("one", tmp_path / "file")
    assert b"".join(store.chunks("one")) == b"second"
    assert store.has("one", 6)
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["one"]


def test_a_file_of_another_size_or_a_folder_is_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "two").mkdir()
    store = open_store(str(tmp_path))
    assert store.has("one", 3)
    assert not store.has("one", 4)
    assert not store.has("two", (tmp_path / "two").stat().st_size)


def test_an_empty_file_is_there_and_has_no_chunks(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store = open_store(str(tmp_path / "far"))
    store.put("nothing", tmp_path / "empty")
    assert store.has("nothing", 0)
    assert list(store.chunks("nothing")) == []


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "far"))
    (tmp_path / "file").write_bytes(b"good")
    store.put("one", tmp_path / "file")
    with pytest.raises(DataError, match=r"cannot be written.*'one'"):
        store.put("one", tmp_path / "missing")
    assert b"".join(store.chunks("one")) == b"good"


def test_a_store_knows_the_place_it_was_opened_for(tmp_path: Path) -> None:
    assert open_store(str(tmp_path)).url == str(tmp_path)
