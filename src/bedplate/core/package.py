"""A model version's folder: a manifest names every file with its SHA-256, and the manifest's own SHA-256 is the version's digest.

A version whose bytes were deleted leaves a tombstone in the folder, so that whoever opens it reads who removed it and why.
Does not know: what the files are (`models.packaging` does), numbers of versions, or the registry.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bedplate.core.atomic import confined, sync, write_bytes, write_json
from bedplate.core.digest import digest_bytes
from bedplate.core.errors import BedplateError, CheckpointError, NotFound

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
EXAMPLE_FILE = "example.json"
ENVIRONMENT_FILE = "environment.json"
TOMBSTONE_FILE = "removed.json"
OBJECTS = "objects"  # below the state folder: bytes of models by their SHA-256, shared by versions


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; when the block ends well it takes the place of `folder` in one rename, else it is deleted."""
    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sync(folder.parent)


def seal(folder: Path, facts: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Write the manifest of all files below `folder`, with `facts` (JSON); returns the version's digest and the manifest.

    Raises BedplateError for a link: what it leads to is not in the folder.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BedplateError("a model's folder holds a link", value=str(path), fix="put the file itself there")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST_FILE:
            files[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
            sync(path)
    manifest = {"format": 1, "files": files, **facts}
    data = json.dumps(manifest, indent=1, sort_keys=True).encode()
    write_bytes(folder / MANIFEST_FILE, data)
    return digest_bytes(data), manifest


def open_package(folder: Path, digest: str | None = None) -> dict[str, Any]:
    """The manifest of a version, with every file checked against it, and the manifest against `digest`.

    Raises NotFound for a version that was removed (who and why), and CheckpointError, naming the file, for what is missing or changed.
    """
    _check_removed(folder)
    data = read_file(folder, MANIFEST_FILE)
    if digest is not None and digest_bytes(data) != digest:
        raise CheckpointError("a model's manifest was changed", value=str(folder / MANIFEST_FILE), fix="roll back, or make it again")
    manifest: dict[str, Any] = json.loads(data)
    for name, facts in manifest["files"].items():
        path = confined(folder, name)
        if not path.is_file() or sha256_file(path) != facts["sha256"]:
            raise CheckpointError("a model's file is missing or damaged", value=str(folder / name), fix="roll back, or make it again")
    return manifest


def remove(folder: Path, tombstone: Mapping[str, Any]) -> int:
    """Delete a version's bytes and leave `tombstone` (`ref`, `by`, `reason`); returns how many bytes went. Harmless when done twice."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    if folder.is_file():  # an output of one file
        size = folder.stat().st_size
        folder.unlink()
    with beside(folder) as empty:
        write_json(empty / TOMBSTONE_FILE, dict(tombstone))
    return size


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of a file of a version. Raises CheckpointError when it cannot be read."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError("a model's file cannot be read", value=str(folder / name)) from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_removed(folder: Path) -> None:
    tombstone = folder / TOMBSTONE_FILE
    if tombstone.is_file() and not (folder / MANIFEST_FILE).exists():
        facts = json.loads(tombstone.read_text())
        what = f"{facts['ref']} was removed by {facts['by']}: {facts['reason']}"
        raise NotFound(what, value=str(folder), fix="use another version, or make it again")
