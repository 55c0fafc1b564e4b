"""An evidence folder on disk: written whole or not at all, every file in a signed statement and in SHA256SUMS.

Does not know: what the files say.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.atomic import sync
from bedplate.core.errors import BedplateError
from bedplate.core.package import sha256_file
from bedplate.models.dsse import sign, statement

PREDICATE_TYPE = "https://bedplate.dev/attestations/evidence/v1"
STATEMENT_FILE = "attestations/folder.dsse.json"
SUMS_FILE = "SHA256SUMS"
UNLISTED = frozenset({STATEMENT_FILE, SUMS_FILE})  # a statement cannot hold its own digest


def check_absent(folder: Path) -> None:
    """Raises BedplateError when there is something already: evidence is never mixed with what was there before."""
    if folder.exists() or folder.is_symlink():
        raise BedplateError("the folder exists already", value=str(folder), fix="name another one with --out, or remove it")


def write(folder: Path, files: Mapping[str, bytes], copies: Mapping[str, Path], about: Mapping[str, Any], key: Ed25519PrivateKey) -> None:
    """Write `files` (path -> bytes) and `copies` (path -> file to copy) to `folder` in one rename, with a statement about all of them.

    `about` is the statement's predicate. Raises BedplateError when the folder exists.
    """
    check_absent(folder)
    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    try:
        for name, data in files.items():
            _place(made, name).write_bytes(data)
        for name, source in copies.items():
            shutil.copyfile(source, _place(made, name))
        digests = listed(made)
        envelope = sign(statement(digests, PREDICATE_TYPE, about), key)
        _place(made, STATEMENT_FILE).write_bytes(encoded(envelope))
        (made / SUMS_FILE).write_text(sums(made))
        for path in made.rglob("*"):
            sync(path)
        sync(made)
        made.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # somebody else made it meanwhile
            check_absent(folder)
        raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync(folder.parent)


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def encoded(value: object) -> bytes:
    """JSON that people can read, the same bytes for the same value."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def present(folder: Path) -> list[str]:
    """All files of a folder, by their path in it; links count as files."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def listed(folder: Path) -> dict[str, str]:
    """The SHA-256 of all files that the statement speaks of."""
    return {name: sha256_file(folder / name) for name in present(folder) if name not in UNLISTED}


def sums(folder: Path) -> str:
    """What SHA256SUMS says, as `sha256sum` writes it."""
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in present(folder) if name != SUMS_FILE)
