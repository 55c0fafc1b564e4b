"""Remotes as DVC lays them out: a folder and S3, one set of expectations for both."""

from __future__ import annotations

import os
from pathlib import Path

import obstore
import pytest

from bedplate.core.errors import DataError, NotFound, SpecError, Unavailable
from bedplate.data.trees.manifest import md5_of
from bedplate.data.trees.objects import Objects
from bedplate.data.trees.remote import MULTIPART_BYTES, Remote, S3Remote, open_remote
from data.trees.facts import contents
from servers.testbed.s3 import S3

ONE = md5_of(b"one")


def settings(s3: S3) -> dict[str, str]:
    keys = {"access_key_id": s3.access_key, "secret_access_key": s3.secret_key, "region": "us-east-1"}
    return {"url": f"s3://trees/{os.urandom(4).hex()}", "endpointurl": s3.endpoint, **keys}


@pytest.fixture(name="remote", params=["folder", "s3"])
def _remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    values = {"url": str(tmp_path / "remote")} if request.param == "folder" else settings(request.getfixturevalue("s3"))
    return open_remote(tmp_path, "store", values)


def stored(tmp_path: Path, data: bytes) -> tuple[Objects, str, Path]:
    cache, md5 = Objects(tmp_path / "cache"), md5_of(data)
    cache.put_bytes(md5, data)
    return cache, md5, cache.path(md5)


def test_objects_go_there_and_come_back(remote: Remote, tmp_path: Path) -> None:
    large = os.urandom(1 << 16) * (MULTIPART_BYTES >> 16) + b"more"
    for data in (b"one", b"", large):
        _, md5, path = stored(tmp_path, data)
        remote.put(md5, str(path))
        there = Objects(tmp_path / f"other-{len(data)}")
        assert remote.fetch(md5, there) == len(data)
        assert there.path(md5).read_bytes() == data
    manifest = md5_of(b"[]") + ".dir"
    assert remote.present([ONE, manifest]) == {ONE}
    assert remote.present([ONE, *(md5_of(str(number).encode()) for number in range(600))]) == {ONE}


def test_what_is_absent_or_damaged_is_not_taken(remote: Remote, tmp_path: Path) -> None:
    _, md5, path = stored(tmp_path, b"one")
    there = Objects(tmp_path / "other")
    with pytest.raises(NotFound, match="the remote has no such object"):
        remote.fetch(md5, there)
    remote.put(md5, str(path))
    if isinstance(remote, S3Remote):
        obstore.put(remote.store, f"files/md5/{md5[:2]}/{md5[2:]}", b"0ne")
    else:
        damaged = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
        damaged.chmod(0o644)
        damaged.write_bytes(b"0ne")
    with pytest.raises(DataError, match="the remote's object is damaged"):
        remote.fetch(md5, there)
    assert contents(there.folder) == {}


def test_s3_objects_lie_where_dvc_looks(s3: S3, tmp_path: Path) -> None:
    values = settings(s3)
    remote = open_remote(tmp_path, "store", values)
    _, md5, path = stored(tmp_path, b"one")
    remote.put(md5, str(path))
    whole = open_remote(tmp_path, "store", {**values, "url": "s3://trees"})
    assert isinstance(whole, S3Remote)
    prefix = values["url"].rpartition("/")[2]
    assert [each["path"] for each in obstore.list(whole.store, prefix).collect()] == [f"{prefix}/files/md5/f9/{ONE[2:]}"]


def test_a_profile_gives_the_keys(s3: S3, tmp_path: Path) -> None:
    values = settings(s3)
    keys = [f"aws_{name} = {values.pop(name)}" for name in ("access_key_id", "secret_access_key")]
    (tmp_path / "credentials").write_text("\n".join(["[ops]", *keys, ""]))
    values |= {"profile": "ops", "credentialpath": str(tmp_path / "credentials")}
    assert open_remote(tmp_path, "store", values).present([ONE]) == set()
    with pytest.raises(NotFound, match=r"no such profile \(got 'dev'\)"):
        open_remote(tmp_path, "store", {**values, "profile": "dev"})


def test_a_remote_that_cannot_be_is_named(s3: S3, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such kind of remote"):
        open_remote(tmp_path, "store", {"url": "gdrive://x"})
    with pytest.raises(Unavailable, match=r"check \.dvc/config and the credentials"):
        open_remote(tmp_path, "store", {**settings(s3), "secret_access_key": "guess"}).present([ONE])
    relative = open_remote(tmp_path, "store", {"url": "../remote"})
    _, md5, path = stored(tmp_path, b"one")
    (tmp_path / ".dvc").mkdir()
    relative.put(md5, str(path))
    assert (tmp_path / "remote" / "files" / "md5" / "f9").is_dir()
