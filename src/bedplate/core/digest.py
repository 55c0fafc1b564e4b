"""Digests: one canonical form of a value, one digest of a file, one digest of a folder.

SHA-256 names everything that is signed or chained; BLAKE3 names bulk bytes, where speed counts.
Does not know: where what it digests is kept, or what a changed digest means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import blake3

DIGEST_CHARS = 64


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, so that equal values have equal bytes.

    Raises TypeError for what JSON cannot hold and ValueError for NaN, which has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """SHA-256 of the canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_bytes(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, as 64 hexadecimal digits."""
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    hasher.update_mmap(path)
    return str(hasher.hexdigest())


def digest_files(root: Path, names: Iterable[str]) -> str:
    """One digest over files below `root`: of the sorted pairs (name, BLAKE3 of the bytes)."""
    return digest([[name, digest_file(root / name)] for name in sorted(names)])
