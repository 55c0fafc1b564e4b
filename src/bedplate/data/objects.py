"""Objects of a bucket as files: what a source such as `s3://bucket/days/*.parquet` names now, and copies of it on this machine.

A copy is taken once and kept while the object's ETag stays, so a row's time of arrival is that of its own object; copies of objects that
are gone are deleted. Credentials and endpoint come from the environment, as obstore reads it (`AWS_*`).
Does not know: what is in a file (`sources`), or tables.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from bedplate.core.atomic import confined, write_json
from bedplate.core.digest import digest
from bedplate.core.errors import DataError, Unavailable

_WILD = "*?["
_PARTS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|[^*?\[]+|\[")


@dataclass(frozen=True)
class _Objects:
    """The objects that a source names: key -> what changes when the object does, and the prefix that all keys share."""

    store: Any
    prefix: str
    stamps: dict[str, list[object]]


def position(uri: str) -> str:
    """What stands for the content of all objects that a source names. Raises DataError for none, Unavailable when they cannot be listed."""
    return digest(sorted(_listed(uri).stamps.items()))


def fetched(uri: str, folder: Path) -> Path:
    """The file or the pattern of files below `folder` that holds what `uri` names now.

    Raises DataError when there is none or one changes while it is copied, and Unavailable when the store does not answer.
    """
    found = _listed(uri)
    files, parts, index = folder / "files", folder / "parts", folder / "index.json"
    known: dict[str, list[object]] = json.loads(index.read_text()) if index.exists() else {}
    for key, stamp in found.stamps.items():
        place = confined(files, key.removeprefix(found.prefix))
        if known.get(key) != stamp or not place.is_file():
            _copy(found.store, key, stamp, parts, place)
    write_json(index, found.stamps)
    for key in known.keys() - found.stamps.keys():
        confined(files, key.removeprefix(found.prefix)).unlink(missing_ok=True)
    return files / _parts(uri)[1].removeprefix(found.prefix)


def _listed(uri: str) -> _Objects:
    bucket, key = _parts(uri)
    wild = min((key.find(sign) for sign in _WILD if sign in key), default=-1)
    prefix = key[: key.rfind("/", 0, wild if wild >= 0 else None) + 1]
    pattern = re.compile("".join(map(_translated, _PARTS.findall(key))))
    with _reaching(uri):
        store = from_url(bucket)
        pages = obstore.list(store, prefix=prefix or None) if wild >= 0 else [[obstore.head(store, key)]]
        listed = [each for page in pages for each in page if wild < 0 or pattern.fullmatch(each["path"])]
    stamps: dict[str, list[object]] = {each["path"]: [each["e_tag"], each["size"], each["last_modified"].isoformat()] for each in listed}
    if not stamps:
        raise DataError("no object matches the source", value=uri, fix="put objects there, or correct `source:`")
    return _Objects(store, prefix, dict(sorted(stamps.items())))


def _parts(uri: str) -> tuple[str, str]:
    """The address of the bucket, and the key or pattern in it."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key


def _translated(part: str) -> str:
    """A part of a pattern as a regular expression, with the meaning that it has for files."""
    if part[0] == "[" and part[-1] == "]":
        return "[" + ("^" if part[1] == "!" else "") + re.escape(part[1:-1].lstrip("!")).replace(r"\-", "-") + "]"
    return {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))


def _copy(store: Any, key: str, stamp: list[object], parts: Path, place: Path) -> None:
    parts.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = parts / f"{os.getpid()}-{PurePosixPath(key).name}"
    with _reaching(key):
        got = obstore.get(store, key)
        if [got.meta["e_tag"], got.meta["size"]] != stamp[:2]:
            raise DataError("an object of the source changed while it was copied", value=key, fix="run it again when it is whole")
        with part.open("wb") as file:
            for chunk in got.stream():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    part.replace(place)


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        code = re.search(r"<Code>(\w+)</Code>", str(error))
        said = code.group(1) if code else " ".join(str(error).split())[:200]
        fix = "look whether the bucket is there and the environment (AWS_*) names who may read it"
        raise Unavailable(f"the objects of the source cannot be read: {said}", value=what, fix=fix) from error
