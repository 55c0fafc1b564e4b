"""The list of a tree's files, byte for byte as DVC 3 writes it: JSON, sorted by path, named by its MD5 with `.dir` behind it.

Source of the format: dvc_data.hashfile.tree.Tree.as_bytes. MD5 is what the format asks for: it finds accidents, not forgeries.
Does not know: where the files lie.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from bedplate.core.errors import DataError

SUFFIX = ".dir"
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


def md5_of(data: bytes) -> str:
    """The MD5 of some bytes, in hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def to_bytes(files: Mapping[str, str]) -> bytes:
    """The manifest of `files`: path below the tree, with `/`, to MD5."""
    return json.dumps([{"md5": files[path], "relpath": path} for path in sorted(files)]).encode()


def name_of(manifest: bytes) -> str:
    """The name under which a manifest is stored."""
    return md5_of(manifest) + SUFFIX


def from_bytes(data: bytes, name: str) -> dict[str, str]:
    """The inverse of `to_bytes`. Raises DataError when the bytes are not those that `name` promises, or name a path outside the tree."""
    if name_of(data) != name:
        raise DataError("a tree's manifest is damaged", value=name, fix="remove it from the cache and pull again")
    try:
        listed: list[Any] = json.loads(data)
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in listed}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError("a tree's manifest is not a list of files", value=name) from error
    if not all(files) or not is_inside("/".join(files) or "-") or not all(map(OBJECT.fullmatch, files.values())):
        wrong = next(path for path, md5 in files.items() if not is_inside(path) or not OBJECT.fullmatch(md5))
        raise DataError("a tree's manifest names what is no file of it", value=wrong, fix=f"do not use the tree {name}")
    return files


def is_inside(path: str) -> bool:
    """Whether a relative path with `/` stays inside its folder, by its words alone."""
    return bool(path) and "\0" not in path and "\\" not in path and not {"", ".", ".."} & set(path.split("/"))
