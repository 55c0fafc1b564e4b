"""One rank's part of a checkpoint as files: `part-R.safetensors` with its tensors, `part-R.json` which tells what is in it.

The file is cut into chunks, each with a BLAKE3 digest. Digests are computed by other threads while bytes are written; both release the
interpreter's lock, so that training goes on.
Does not know: who writes which tensors (`layout`), or when all parts together are a checkpoint (`commit`).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3

from bedplate.core.digest import digest_bytes
from bedplate.train.checkpoints.layout import Piece, piece_of

MANIFEST_FILE = "manifest.json"
CHUNK_BYTES = 4 << 20
WRITE_BYTES = 4 << 20
DIGEST_THREADS = 1  # BLAKE3 is faster than disks are; a second one took its time from the writing
WRITE_BACK_BYTES = 8 << 20
SYNC_FILE_RANGE_WRITE = 2  # sync_file_range(2)


@dataclass(frozen=True)
class Part:
    """What `part-R.json` tells: the file, its size in bytes, the digest of each chunk, the pieces, the trees and generators of the rank."""

    rank: int
    nbytes: int
    chunk_bytes: int
    chunks: tuple[str, ...]
    pieces: tuple[Piece, ...]
    trees: Sequence[Any]
    generators: Mapping[str, Any]

    @property
    def file(self) -> str:
        """The name of the file with the tensors."""
        return part_file(self.rank)

    def to_bytes(self) -> bytes:
        """The JSON text."""
        values = {
            "rank": self.rank,
            "bytes": self.nbytes,
            "chunk_bytes": self.chunk_bytes,
            "chunks": list(self.chunks),
            "pieces": [piece.to_json() for piece in self.pieces],
            "trees": list(self.trees),
            "generators": dict(self.generators),
        }
        return json.dumps(values, separators=(",", ":")).encode()


def part_of(data: bytes) -> Part:
    """The inverse of `Part.to_bytes`."""
    values = json.loads(data)
    pieces = tuple(map(piece_of, values["pieces"]))
    return Part(
        values["rank"], values["bytes"], values["chunk_bytes"], tuple(values["chunks"]), pieces, values["trees"], values["generators"]
    )


def part_file(rank: int) -> str:
    """The name of the file with a rank's tensors."""
    return f"part-{rank}.safetensors"


def part_index(rank: int) -> str:
    """The name of the file that tells what is in it; it is there when all of the part is."""
    return f"part-{rank}.json"


class Digests:
    """The digests of the chunks of `data`, computed by threads of their own from now on."""

    def __init__(self, data: memoryview, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._pool = ThreadPoolExecutor(DIGEST_THREADS, "checkpoint-digest")
        starts = range(0, len(data), chunk_bytes)
        self._found: list[Future[str]] = [self._pool.submit(chunk_digest, data[start : start + chunk_bytes]) for start in starts]

    def result(self) -> tuple[str, ...]:
        """All of them, in order; waits."""
        found = tuple(each.result() for each in self._found)
        self._pool.shutdown()
        return found


def chunk_digest(data: memoryview | bytes) -> str:
    """BLAKE3 of a chunk, as 64 hexadecimal digits."""
    return str(blake3.blake3(data).hexdigest())


def write_file(path: Path, data: memoryview, *, durable: bool) -> None:
    """Write `data`; `durable` makes it survive power loss. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        done = begun = 0
        while done < len(data):
            done += os.write(descriptor, data[done : done + WRITE_BYTES])
            if durable and done - begun >= WRITE_BACK_BYTES:
                _write_back(descriptor, begun, done)
                begun = done
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_back(descriptor: int, begin: int, end: int) -> None:
    """Have the kernel begin to write these bytes to the disk, so that the sync at the end finds little to do: half the time of a save."""
    if sys.platform == "linux":
        ctypes.CDLL(None).sync_file_range(descriptor, ctypes.c_int64(begin), ctypes.c_int64(end - begin), SYNC_FILE_RANGE_WRITE)


def write_index(folder: Path, part: Part, *, durable: bool) -> None:
    """Say that a part is whole: its index appears in one rename. Raises OSError."""
    path = folder / part_index(part.rank)
    beside = path.with_suffix(".tmp")
    write_file(beside, memoryview(part.to_bytes()), durable=durable)
    beside.replace(path)  # the folder is synced once, when all parts are there


def manifest_of(step: int, position: Mapping[str, int], facts: Mapping[str, Any], indexes: Sequence[bytes]) -> bytes:
    """The manifest that commits the parts with these indexes, by rank: it covers every byte through their digests."""
    parts = [{"index": part_index(rank), "sha256": digest_bytes(index)} for rank, index in enumerate(indexes)]
    values = {"format": 2, "step": step, "position": dict(position), "facts": dict(facts), "world_size": len(indexes), "parts": parts}
    return json.dumps(values, indent=1, sort_keys=True).encode()
