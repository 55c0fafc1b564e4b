"""Remotes of `.dvc/config`: a folder, or S3 and what speaks it, laid out as DVC does; every object is verified on the way.

An object in a folder appears by a rename, one in S3 when its upload is complete. What was moved before a kill is not moved again.
Does not know: which objects belong together.
"""

from __future__ import annotations

import configparser
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from bedplate.core.errors import DataError, NotFound, SpecError, Unavailable
from bedplate.data.trees.link import READ_ONLY
from bedplate.data.trees.objects import MANY, Objects
from bedplate.data.trees.scan import BLOCK_BYTES

MULTIPART_BYTES = 16 << 20
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class Remote(Protocol):
    """Where objects are kept for others. All raise Unavailable when it cannot be reached."""

    def present(self, wanted: Collection[str]) -> set[str]:
        """Those of the wanted objects that are there."""

    def put(self, md5: str, source: str) -> int:
        """Store the object that lies, verified, in `source`, and return its bytes."""

    def fetch(self, md5: str, into: Objects) -> int:
        """Bring an object into the cache and return its bytes. Raises NotFound, and DataError when it is damaged."""


@dataclass(frozen=True)
class FolderRemote:
    """A folder of this machine, or one that is mounted. Objects are copied: what shares an inode with the cache is no second copy."""

    objects: Objects

    def present(self, wanted: Collection[str]) -> set[str]:
        """Those that are there."""
        return self.objects.present(wanted)

    def put(self, md5: str, source: str) -> int:
        """Copy an object there."""
        return self.objects.put_copy(md5, source)

    def fetch(self, md5: str, into: Objects) -> int:
        """Copy an object from there."""
        try:
            with self.objects.path(md5).open("rb") as file:
                return _received(md5, iter(lambda: file.read(BLOCK_BYTES), b""), into)
        except FileNotFoundError as error:
            raise NotFound("the remote has no such object", value=md5, fix="push it from where it was added") from error


@dataclass(frozen=True)
class S3Remote:
    """A bucket, by obstore; `url` is for messages. Objects lie below `files/md5/`, behind the prefix of the URL."""

    url: str
    store: Any

    def present(self, wanted: Collection[str]) -> set[str]:
        """Those that are there: many are looked for by listing."""
        try:
            if len(wanted) < MANY:
                return {md5 for md5 in wanted if self._has(md5)}
            listed = (entry["path"] for page in obstore.list(self.store, "files/md5/", chunk_size=1000) for entry in page)
            return {"".join(path.rsplit("/", 2)[-2:]) for path in listed} & set(wanted)
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def put(self, md5: str, source: str) -> int:
        """Upload an object; a store that tells another MD5 has not stored it."""
        file = Path(source)
        size = file.stat().st_size
        try:
            told = obstore.put(self.store, _key(md5), file, use_multipart=size > MULTIPART_BYTES, chunk_size=MULTIPART_BYTES)
            tag = _MD5.fullmatch(told.get("e_tag") or "") if size <= MULTIPART_BYTES else None
            damaged = tag is not None and tag[1] != md5[:32] and obstore.head(self.store, _key(md5))["size"] != size
            if damaged:
                obstore.delete(self.store, _key(md5))
        except (BaseError, OSError) as error:
            raise self._away(error) from error
        if damaged:
            raise DataError("an upload arrived damaged", value=md5, fix="push again")
        return size

    def fetch(self, md5: str, into: Objects) -> int:
        """Download an object."""
        try:
            parts = obstore.get(self.store, _key(md5)).stream(min_chunk_size=BLOCK_BYTES)
            return _received(md5, (bytes(part) for part in parts), into)
        except FileNotFoundError as error:
            raise NotFound("the remote has no such object", value=md5, fix="push it from where it was added") from error
        except (BaseError, OSError) as error:
            raise self._away(error) from error

    def _has(self, md5: str) -> bool:
        try:
            obstore.head(self.store, _key(md5))
        except FileNotFoundError:
            return False
        return True

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the remote cannot be used: {str(error).splitlines()[0]}", value=self.url, fix="check .dvc/config and the credentials"
        )


def open_remote(root: Path, name: str, values: Mapping[str, str]) -> Remote:
    """The remote `name` with the settings of `.dvc/config`; relative folders start at `.dvc`. Raises SpecError for an unknown kind."""
    url = urlsplit(values["url"])
    if url.scheme == "s3":
        return S3Remote(values["url"], _bucket(name, values))
    if url.scheme not in ("", "file"):
        raise SpecError("no such kind of remote", field=f"remote {name}", value=values["url"], fix="a folder, or s3://bucket/prefix")
    return FolderRemote(Objects(root / ".dvc" / (url.path if url.scheme else values["url"]) / "files" / "md5"))


def _key(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _received(md5: str, parts: Any, into: Objects) -> int:
    """Write what arrives, and let it be an object when its digest is right."""
    digest, nbytes = hashlib.md5(usedforsecurity=False), 0
    with into.arriving(md5) as name:
        with Path(name).open("xb") as file:
            for part in parts:
                digest.update(part)
                nbytes += file.write(part)
        if digest.hexdigest() != md5[:32]:
            raise DataError("the remote's object is damaged", value=md5, fix="remove it there and push it again")
        Path(name).chmod(READ_ONLY)
    return nbytes


def _bucket(name: str, values: Mapping[str, str]) -> S3Store:
    url = urlsplit(values["url"])
    endpoint = values.get("endpointurl")
    config: dict[str, Any] = {
        **_profile(values.get("profile"), Path(values.get("credentialpath") or "~/.aws/credentials")),
        **{key: values[key] for key in ("access_key_id", "secret_access_key", "region") if key in values},
        **({"session_token": values["session_token"]} if "session_token" in values else {}),
        **({"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}),
        **({"skip_signature": True} if values.get("allow_anonymous_login") == "true" else {}),
    }
    options: Any = {"allow_http": True} if endpoint and endpoint.startswith("http://") else {}
    try:
        return S3Store(url.netloc, prefix=url.path.strip("/") or None, client_options=options, **config)
    except (BaseError, ValueError, TypeError) as error:
        raise SpecError(f"the remote's settings do not fit: {error}", field=f"remote {name}", file=".dvc/config") from error


def _profile(name: str | None, file: Path) -> dict[str, str]:
    """Keys of a profile of the AWS tools. Raises NotFound when it is not there; without a name, obstore looks in the environment."""
    if name is None:
        return {}
    parser = configparser.RawConfigParser()
    parser.read(file.expanduser(), "utf-8")
    if name not in parser:
        raise NotFound("no such profile", value=name, fix=f"add it to {file}")
    names = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key", "aws_session_token": "session_token"}
    return {names[key]: value for key, value in parser.items(name) if key in names}
