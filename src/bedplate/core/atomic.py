"""Files that are there whole or not at all: write beside, sync, rename.

Does not know: what the bytes mean. Appends with recovery belong to the journal and the embedded log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from bedplate.core.errors import BedplateError


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put `data` at `path` so that a reader, or a machine that loses power, sees the old file or the new one."""
    with replacing(path, mode=mode) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BufferedWriter]:
    """A file to write what is to be at `path`, as `write_bytes` puts it there, once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)  # noqa: PTH105 - the one rename that everything durable goes through
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: object, *, mode: int = 0o644) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, json_bytes(value), mode=mode)


def json_bytes(value: object) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def sync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, durable (a rename is not, until its folder is synced)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def confined(root: Path, relative: str) -> Path:
    """The path `relative` below `root`, links resolved.

    Raises BedplateError when it leads outside or is no path at all.
    """
    try:
        target = (root / relative).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL byte, a circle of links
        raise BedplateError("not a path", value=relative, fix=f"name a path inside {root}") from error
    if not target.is_relative_to(root.resolve()):
        raise BedplateError("a path leads outside its folder", value=relative, fix=f"name a path inside {root}")
    return target
