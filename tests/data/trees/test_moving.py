"""Pushing and pulling: what one machine added another has, verified, with nothing overwritten that nobody else has."""

from __future__ import annotations

import shutil
import stat
import time
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.data.trees.adding import add, status
from bedplate.data.trees.manifest import md5_of, name_of, to_bytes
from bedplate.data.trees.moving import check_out, copy_out, fetch, push
from bedplate.data.trees.repository import Repository
from data.trees.facts import OBJECTS, added, contents, objects, quiet, with_remote, write, write_facts
from servers.testbed.s3 import S3


def pulled(repository: Repository, *targets: str, force: bool = False) -> tuple[int, int]:
    fetch(repository, targets, "", quiet)
    return check_out(repository, targets, force, quiet)


def cloned(repository: Repository, folder: Path) -> Repository:
    """What git would bring to another machine."""
    shutil.copytree(repository.root, folder, ignore=shutil.ignore_patterns("cache", "tmp", "images", "weights.bin", "t"))
    return Repository.open(folder)


@pytest.fixture(name="here")
def _here(tmp_path: Path) -> Repository:
    return with_remote(added(write_facts(tmp_path / "here"), "images", "weights.bin"), str(tmp_path / "remote"))


def test_another_machine_has_the_files(here: Repository, tmp_path: Path) -> None:
    assert push(here, [], "", quiet).objects == 6
    assert push(here, [], "store", quiet).objects == 0
    assert objects(tmp_path / "remote") == OBJECTS
    there = cloned(here, tmp_path / "there")
    assert pulled(there) == (7, 0)
    assert {**contents(there.root / "images"), "x.tmp": b"skip"} == contents(here.root / "images")
    assert stat.S_IMODE((there.root / "weights.bin").stat().st_mode) == 0o755
    assert pulled(there) == (0, 0)
    assert {each.state for each in status(there, [], quiet)} == {"unchanged"}


def test_s3_brings_the_same(s3: S3, tmp_path: Path) -> None:
    keys = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key, "region": "us-east-1", "endpointurl": s3.endpoint}
    root = write(tmp_path / "here", {f"t/{number}": b"%d" % number for number in range(40)})
    here = with_remote(added(root, "t"), "s3://trees/moving", **keys)
    assert push(here, ["t"], "", quiet).objects == 41
    there = cloned(here, tmp_path / "there")
    assert pulled(there, "t") == (40, 0)
    assert contents(there.root / "t") == contents(root / "t")


def test_a_push_that_ended_early_goes_on_and_the_manifest_comes_last(here: Repository, tmp_path: Path) -> None:
    [manifest] = [name for name in OBJECTS if name.endswith(".dir")]
    damaged = here.root / ".dvc" / "cache" / "files" / "md5" / "35" / "d6d33467aae9a2e3dccb4b6b027878"
    damaged.chmod(0o644)
    damaged.write_bytes(b"thre3")
    with pytest.raises(DataError, match="an object of the cache is damaged; it was taken away"):
        push(here, [], "", quiet)
    assert manifest not in objects(tmp_path / "remote")
    with pytest.raises(NotFound, match="1 objects are in neither the cache nor the remote"):
        push(here, [], "", quiet)
    (here.root / "images" / "ä" / "ü x.txt").unlink()
    write(here.root, {"images/ä/ü x.txt": b"three"})
    add(here, "images", quiet)
    push(here, [], "", quiet)
    assert objects(tmp_path / "remote") == OBJECTS


def test_files_that_only_the_project_has_are_not_overwritten(here: Repository, tmp_path: Path) -> None:
    push(here, [], "", quiet)
    images = here.root / "images"
    (images / "a.txt").unlink()
    write(images, {"a.txt": b"my own", "mine": b"mine"})
    with pytest.raises(BedplateError, match=r"a file would be lost.*images/a\.txt"):
        pulled(here)
    assert contents(images)["mine"] == b"mine"
    assert pulled(here, force=True) == (1, 1)
    assert (images / "a.txt").read_bytes() == b"one"
    assert not (images / "mine").exists()


def test_an_earlier_content_comes_back_where_the_cache_has_what_is_there(tmp_path: Path) -> None:
    root = write(tmp_path, {"t/x": b"one", "t/y": b"two"})
    repository = added(root, "t")
    first = (root / "t.dvc").read_bytes()
    time.sleep(0.03)
    (root / "t" / "x").unlink()
    write(root, {"t/x": b"other", "t/more": b"more"})
    add(repository, "t", quiet)
    (root / "t.dvc").write_bytes(first)
    assert check_out(repository, [], False, quiet) == (1, 1)
    assert contents(root / "t") == {"x": b"one", "y": b"two"}


def test_a_damaged_object_is_fetched_again(here: Repository, tmp_path: Path) -> None:
    push(here, [], "", quiet)
    time.sleep(0.03)
    path = here.cache.path(md5_of(b"three"))
    path.unlink()
    path.write_bytes(b"thre3")
    (here.root / "images" / "ä" / "ü x.txt").unlink()
    assert fetch(here, [], "", quiet).objects == 1
    check_out(here, [], False, quiet)
    assert (here.root / "images" / "ä" / "ü x.txt").read_bytes() == b"three"


def test_get_writes_files_that_may_be_changed(here: Repository, tmp_path: Path) -> None:
    assert copy_out(here, "images", tmp_path / "copy") == 6
    assert contents(tmp_path / "copy") == {name: data for name, data in contents(here.root / "images").items() if name != "x.tmp"}
    (tmp_path / "copy" / "a.txt").write_bytes(b"mine")
    assert (here.root / "images" / "a.txt").read_bytes() == b"one"
    assert copy_out(here, "weights.bin", tmp_path / "w") == 1
    assert (tmp_path / "w").read_bytes() == b"\0bin"
    with pytest.raises(BedplateError, match="the place is taken"):
        copy_out(here, "images", tmp_path / "copy")


def test_a_tree_is_not_written_through_a_link_that_leads_outside(tmp_path: Path) -> None:
    root, outside = write(tmp_path / "root", {"t/a/x": b"one"}), write(tmp_path / "outside", {"y": b"two"})
    repository = added(root, "t")
    shutil.rmtree(root / "t")
    (root / "t").mkdir()
    (root / "t" / "a").symlink_to(outside)
    with pytest.raises(DataError):
        check_out(repository, [], True, quiet)
    assert contents(outside) == {"y": b"two"}


def test_what_is_not_tracked_or_nowhere_is_named(here: Repository, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"the path is not tracked \(got 'image'\)"):
        push(here, ["image"], "", quiet)
    there = cloned(here, tmp_path / "there")
    with pytest.raises(NotFound, match="the remote has no such object"):
        fetch(there, [], "", quiet)
    manifest = to_bytes({"x": md5_of(b"gone")})
    here.cache.put_bytes(name_of(manifest), manifest)
    (here.root / "t.dvc").write_text(f"outs:\n- md5: {name_of(manifest)}\n  size: 4\n  nfiles: 1\n  hash: md5\n  path: t\n")
    with pytest.raises(NotFound, match="the cache lacks 1 objects"):
        check_out(here, ["t"], False, quiet)
