"""The S3 service keeps objects, and refuses a request that is signed with another key."""

from __future__ import annotations

import dataclasses

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from servers.testbed.s3 import S3


def store(server: S3) -> S3Store:
    return S3Store(
        "bucket",
        endpoint=server.endpoint,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def names(bucket: S3Store, prefix: str) -> list[str]:
    return sorted(entry["path"] for entry in obstore.list(bucket, prefix).collect())


def test_objects_are_put_read_listed_and_deleted(s3: S3) -> None:
    bucket = store(s3)
    body = bytes(range(256)) * 1000
    obstore.put(bucket, "runs/a", body)
    obstore.put(bucket, "runs/b", b"second")
    assert bytes(obstore.get(bucket, "runs/a").bytes()) == body
    assert bytes(obstore.get_range(bucket, "runs/a", start=1000, length=7)) == body[1000:1007]
    assert names(bucket, "runs/") == ["runs/a", "runs/b"]
    obstore.delete(bucket, "runs/a")
    assert names(bucket, "runs/") == ["runs/b"]
    with pytest.raises(FileNotFoundError):
        obstore.get(bucket, "runs/a")


def test_a_conditional_put_lets_one_writer_win(s3: S3) -> None:
    bucket = store(s3)
    obstore.put(bucket, "lock", b"first", mode="create")
    with pytest.raises(BaseError, match=r"(?i)already exists|precondition"):
        obstore.put(bucket, "lock", b"second", mode="create")
    assert bytes(obstore.get(bucket, "lock").bytes()) == b"first"


def test_a_bad_signature_is_refused(s3: S3) -> None:
    obstore.put(store(s3), "secret", b"theirs")
    stranger = store(dataclasses.replace(s3, secret_key="0" * 40))
    with pytest.raises(BaseError, match=r"SignatureDoesNotMatch|403"):
        obstore.get(stranger, "secret")
    with pytest.raises(BaseError, match=r"SignatureDoesNotMatch|403"):
        obstore.put(stranger, "secret", b"mine")
    assert bytes(obstore.get(store(s3), "secret").bytes()) == b"theirs"
