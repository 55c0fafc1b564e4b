"""Derivation: shards written once for what they are derived from, under a name that says it, whole or not at all.

A set's folder is named by the digest of its key (the table's version, the transform, the seed), so the same is never derived twice: a
second process waits for the first and finds it done. Everything is written to a folder beside it that one rename puts in place; what a
killed process leaves is cleared away by the next one that derives the same.
Does not know: how records are made (`token_set`, `image_set`) or read (`records`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from bedplate.core.atomic import sync, write_json
from bedplate.core.digest import digest
from bedplate.data.feed.records import MANIFEST, Manifest, Shard
from bedplate.data.feed.store import Store

SHARD_BYTES = 64 << 20


@dataclass(frozen=True)
class Derived:
    """A derived set in `folder`; `made` says whether this call made it. `digest` is that of the manifest."""

    folder: Path
    manifest: Manifest
    digest: str
    made: bool


class ShardWriter:
    """Writes records to shards of about `shard_bytes`, split by split. Memory holds one shard of each split at most."""

    def __init__(self, folder: Path, record: np.dtype[Any], shard_bytes: int = SHARD_BYTES) -> None:
        """`folder` is there and empty."""
        self._folder = folder
        self._record = record
        self._shard_bytes = shard_bytes
        self._parts: dict[str, _Part] = {}
        self._shards: dict[str, list[Shard]] = {}

    def add(self, split: str, records: npt.NDArray[Any], own_bytes: Sequence[bytes] = ()) -> None:
        """Append structured records; with `own_bytes`, one for each, their fields `at` and `bytes` are filled in here."""
        part = self._parts.setdefault(split, _Part([], [], 0))
        per_shard = max(1, self._shard_bytes // self._record.itemsize)
        for first in range(0, len(records), per_shard):
            chunk, theirs = records[first : first + per_shard], own_bytes[first : first + per_shard]
            size = chunk.nbytes + sum(map(len, theirs))
            if part.size and part.size + size > self._shard_bytes:
                self._flush(split)
                part = self._parts[split]
            part.records.append(chunk)
            part.own_bytes.extend(theirs)
            part.size += size

    def end(self, splits: Sequence[str]) -> dict[str, list[Shard]]:
        """Write what is left; the shards of each split, also of those without records."""
        for split in list(self._parts):
            self._flush(split)
        return {split: self._shards.get(split, []) for split in splits}

    def _flush(self, split: str) -> None:
        part = self._parts[split]
        if not part.size:
            return
        records = np.concatenate(part.records)
        if part.own_bytes:
            lengths = np.array([len(each) for each in part.own_bytes], np.int64)
            records["bytes"] = lengths
            records["at"] = records.nbytes + np.cumsum(lengths) - lengths
        pieces = [records.tobytes(), *part.own_bytes]
        hasher = blake3.blake3()
        for piece in pieces:
            hasher.update(piece)
        shard = Shard(hasher.hexdigest(), len(records), sum(map(len, pieces)))
        with (self._folder / shard.name).open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        self._shards.setdefault(split, []).append(shard)
        self._parts[split] = _Part([], [], 0)


@dataclass
class _Part:
    """What one split has that is not in a shard yet."""

    records: list[npt.NDArray[Any]]
    own_bytes: list[bytes]
    size: int


Write = Callable[[Path], Manifest]


def derive(root: Path, key: Mapping[str, Any], write: Write) -> Derived:
    """The set that `key` names, below `root`: the one that is there, or what `write(folder)` writes into an empty folder.

    `write` returns the manifest, which is written here. One process at a time derives a key; the others wait.
    """
    name = digest(dict(key))
    folder = root / name
    root.mkdir(parents=True, exist_ok=True)
    if not (folder / MANIFEST).is_file():
        with _held(root / f".{name}.lock"):
            if not (folder / MANIFEST).is_file():
                return _made(root, name, key, write)
    return _known(folder, made=False)


def publish(derived: Derived, store: Store, folder: Path) -> Derived:
    """Put the shards of a set into `store`, where they are not yet, then its manifest into `folder`, pointing there."""
    shards = [shard for shards in derived.manifest.splits.values() for shard in shards]
    for shard in shards:
        if not store.has(shard.name, shard.size_bytes):
            store.put(shard.name, derived.folder / shard.name)
    manifest = replace(derived.manifest, store=store.url)
    for path in derived.folder.iterdir():
        if path.suffix != ".shard" and path.name != MANIFEST:
            write_json(folder / path.name, json.loads(path.read_bytes()))
    write_json(folder / MANIFEST, manifest.to_json())
    return Derived(folder, manifest, digest(manifest.to_json()), made=derived.made)


def _made(root: Path, name: str, key: Mapping[str, Any], write: Write) -> Derived:
    beside = root / f".{name}.tmp"
    shutil.rmtree(beside, ignore_errors=True)  # a killed process leaves it; the lock says that nobody writes to it now
    beside.mkdir()
    try:
        manifest = write(beside)
        write_json(beside / "key.json", dict(key))
        write_json(beside / MANIFEST, manifest.to_json())
        shutil.rmtree(root / name, ignore_errors=True)  # one without a manifest is no set
        beside.rename(root / name)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync(root)
    return _known(root / name, made=True)


def _known(folder: Path, *, made: bool) -> Derived:
    values = json.loads((folder / MANIFEST).read_bytes())
    return Derived(folder, Manifest.from_json(values), digest(values), made)


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock file. It is never removed: who waits for it must wait for the same file."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
