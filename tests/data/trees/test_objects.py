"""The cache: objects whole, read-only and shared with the files they came from."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.data.trees.manifest import md5_of
from bedplate.data.trees.objects import MANY, Objects
from bedplate.data.trees.scan import Found, scan
from data.trees.facts import write

ONE = md5_of(b"one")


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "cache")


def found(root: Path, name: str) -> Found:
    [each] = scan(root, name)
    return each


def test_a_file_is_adopted_without_a_copy_and_protected(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"x": b"one", "y": b"one"})
    cache.adopt(ONE, tmp_path / "x", found(tmp_path, "x"), ["hardlink", "copy"])
    stamped = cache.adopt(ONE, tmp_path / "y", found(tmp_path, "y"), ["hardlink", "copy"])
    assert cache.path(ONE).samefile(tmp_path / "x")
    assert cache.path(ONE).samefile(tmp_path / "y"), "equal files share one object"
    assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == 0o444
    assert cache.is_at(ONE, stamped)


def test_an_executable_or_empty_file_keeps_its_own_inode(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"run": b"one", "empty": b""})
    (tmp_path / "run").chmod(0o755)
    cache.adopt(ONE, tmp_path / "run", found(tmp_path, "run"), ["hardlink", "copy"])
    cache.adopt(md5_of(b""), tmp_path / "empty", found(tmp_path, "empty"), ["hardlink", "copy"])
    assert not cache.path(ONE).samefile(tmp_path / "run")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    assert not cache.path(md5_of(b"")).samefile(tmp_path / "empty")
    (tmp_path / "empty").write_bytes(b"may be written")


def test_copies_leave_the_file_alone(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"x": b"one"})
    (tmp_path / "x").chmod(0o640)
    cache.adopt(ONE, tmp_path / "x", found(tmp_path, "x"), ["copy"])
    assert not cache.path(ONE).samefile(tmp_path / "x")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_link_becomes_the_file_that_it_led_to(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"x": b"one"})
    (tmp_path / "link").symlink_to("x")
    each = Found("link", found(tmp_path, "x").stamp, False, True)
    cache.adopt(ONE, tmp_path / "link", each, ["hardlink", "copy"])
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"one"


def test_a_file_that_changed_since_it_was_hashed_is_not_stored(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"x": b"one"})
    before = found(tmp_path, "x")
    (tmp_path / "x").write_bytes(b"other")
    with pytest.raises(DataError, match="changed while it was added"):
        cache.adopt(ONE, tmp_path / "x", before, ["copy"])
    assert cache.present([ONE]) == set()


def test_bytes_under_a_wrong_name_are_refused(cache: Objects) -> None:
    with pytest.raises(DataError, match="is damaged"):
        cache.put_bytes(ONE, b"two")
    assert cache.present([ONE]) == set()


def test_a_damaged_object_is_not_sound(cache: Objects) -> None:
    cache.put_bytes(ONE, b"one")
    good = cache.sound(ONE, None)
    assert good is not None
    assert cache.sound(ONE, good) == good
    cache.path(ONE).chmod(0o644)
    cache.path(ONE).write_bytes(b"0ne!")
    assert cache.sound(ONE, good) is None


def test_many_are_looked_for_as_few_are(cache: Objects) -> None:
    names = {md5_of(str(number).encode()): str(number).encode() for number in range(MANY + 20)}
    for md5, data in list(names.items())[:50]:
        cache.put_bytes(md5, data)
    assert cache.present(set(names)) == set(list(names)[:50])
    assert cache.present(list(names)[49:51]) == {list(names)[49]}


def test_an_object_is_placed_as_asked(tmp_path: Path, cache: Objects) -> None:
    cache.put_bytes(ONE, b"one")
    cache.place(ONE, tmp_path / "hard", ["hardlink", "copy"], False)
    cache.place(ONE, tmp_path / "run", ["hardlink", "copy"], True)
    assert (tmp_path / "hard").samefile(cache.path(ONE))
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE(cache.path(ONE).stat().st_mode) == 0o444


def test_a_copy_is_made_where_there_was_no_folder_yet_and_is_verified(tmp_path: Path, cache: Objects) -> None:
    write(tmp_path, {"one": b"one", "large": bytes(3 << 20), "other": b"another"})
    large = md5_of(bytes(3 << 20))
    assert cache.put_copy(ONE, str(tmp_path / "one")) == 3
    assert cache.put_copy(ONE, str(tmp_path / "one")) == 3, "again changes nothing"
    assert cache.put_copy(large, str(tmp_path / "large")) == 3 << 20
    assert Path(cache.name(large)).read_bytes() == bytes(3 << 20)
    assert stat.S_IMODE(cache.path(ONE).stat().st_mode) == 0o444
    with pytest.raises(DataError, match="damaged"):
        cache.put_copy(md5_of(b"what it should be"), str(tmp_path / "other"))
    assert cache.present([ONE, large, md5_of(b"what it should be")]) == {ONE, large}
    assert not any((cache.folder.parent / "arriving").iterdir()), "nothing half is left"


def test_many_may_store_one_object_at_once(cache: Objects) -> None:
    others = [Objects(cache.folder) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda each: each.put_bytes(ONE, b"one"), others * 20):
            pass
    assert cache.path(ONE).read_bytes() == b"one"
    assert not any((cache.folder.parent / "arriving").iterdir())
