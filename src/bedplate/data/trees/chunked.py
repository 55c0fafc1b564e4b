"""Large files that change a little: chunks named by BLAKE3, each stored once, in packs.

    .dvc/cache/chunks/packs/ab/cdef…      bytes of chunks, one after another; a pack of a file that was all new is the very file
    .dvc/cache/chunks/files/ab/cdef…      the chunks of one content: digest, length, and the pack and offset where they lie
    .dvc/tmp/bedplate-chunks.db           which chunk lies in which pack; it may be deleted, the lists say it too
    large.chunks                          beside the file, for git: the content's name and size (DVC does not read it)

A file's cuts are found first, then what lies between them is hashed. Does not know: remotes.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from bedplate.core.atomic import write_json
from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.data.trees.cuts import ends
from bedplate.data.trees.link import READ_ONLY, beside, linked
from bedplate.data.trees.repository import Repository
from bedplate.data.trees.scan import Progress
from bedplate.data.trees.state import Stamp, stamp

SUFFIX = ".chunks"
DIGEST_BYTES = 32
HASHING = 2  # threads
BATCH = 16  # chunks that one thread is given at a time
_SCHEMA = """
create table if not exists places (digest blob primary key, pack text, begin integer, length integer) without rowid;
create table if not exists seen (path text primary key, inode integer, mtime_ns integer, size_bytes integer, name text) without rowid;
"""


class Chunk(NamedTuple):
    """A stretch of a file, from `begin` to before `end`, in bytes."""

    begin: int
    end: int
    digest: bytes


@dataclass(frozen=True)
class Pointer:
    """What a `.chunks` file says."""

    name: str
    size_bytes: int
    chunks: int


@dataclass(frozen=True)
class Kept:
    """What an addition did: `new_bytes` of `size_bytes` were not stored before; `copied_bytes` had to be copied."""

    path: str
    pointer: Pointer
    new_chunks: int
    new_bytes: int
    copied_bytes: int


def add_chunked(repository: Repository, target: str, progress: Progress) -> Kept:
    """Store a file by its chunks, and write its `.chunks` file. Raises NotFound, and DataError for one that changes meanwhile.

    A file of which half or more is new is not copied: it is, read-only, its pack.
    """
    path = repository.root / target
    if not path.is_file() or path.is_symlink():
        raise NotFound("no such file, or a link", value=str(path), fix="name a file; folders are added without --chunked")
    before = stamp(path.stat())
    folder = _folder(repository)
    with closing(_index(repository)) as index:
        known = _known(index, target, before)
        if known is not None and (folder / "files" / known.name[:2] / known.name[2:]).exists():
            _point(repository, target, known)
            return Kept(target, known, 0, 0, 0)
        chunks = chunks_of(path, progress)
        fresh = _fresh(index, folder, chunks)
        new_bytes = sum(chunk.end - chunk.begin for chunk in fresh)
        whole = 2 * new_bytes >= before.size_bytes
        pack = _name(chunks if whole else fresh)
        place = folder / "packs" / pack[:2] / pack[2:]
        packing = bool(fresh) and not place.exists()
        if packing:
            _pack(path, place, None if whole else fresh, repository.links)
        if stamp(path.stat()) != before:
            if packing:
                place.unlink()  # it may hold other bytes than its name says
            raise DataError("the file changed while it was added", value=target, fix="let its writer end first, and add it again")
        pointer = Pointer(_name(chunks), before.size_bytes, len(chunks))
        _note(index, chunks if whole else fresh, pack, whole)
        _list(index, folder / "files" / pointer.name[:2] / pointer.name[2:], chunks)
        index.execute("insert or replace into seen values (?, ?, ?, ?, ?)", (target, *before, f"{pointer.name} {pointer.chunks}"))
    repository.ignore_in_git(target)
    _point(repository, target, pointer)
    return Kept(target, pointer, len(fresh), new_bytes, 0 if whole and repository.links[0] != "copy" else new_bytes)


def write_out(repository: Repository, target: str, out: Path) -> Pointer:
    """Write the content that `target`'s `.chunks` file names as `out`, every chunk verified. Raises NotFound and DataError."""
    if out.exists():
        raise BedplateError("the place is taken", value=str(out), fix="name a path that is not there")
    pointer = read_pointer(repository.root / f"{target}{SUFFIX}")
    folder = _folder(repository)
    listed = folder / "files" / pointer.name[:2] / pointer.name[2:]
    if not listed.exists():
        raise NotFound("the cache does not have the file's chunks", value=target, fix="add the file again where it is")
    out.parent.mkdir(parents=True, exist_ok=True)
    named = blake3()
    with beside(out) as temporary, temporary.open("xb") as file:
        for row in json.loads(listed.read_bytes()):
            data, digest = _read(folder, row), bytes.fromhex(row[0])
            if blake3(data).digest() != digest:
                raise DataError("a chunk is damaged", value=row[0], fix="add the file again where it is whole")
            named.update(digest)
            file.write(data)
        if named.hexdigest() != pointer.name:
            raise DataError("the list of a file's chunks is damaged", value=str(listed), fix="add the file again")
    return pointer


def read_pointer(file: Path) -> Pointer:
    """What a `.chunks` file says. Raises NotFound, and DataError for what is not one."""
    if not file.exists():
        raise NotFound("the file was not added by its chunks", value=str(file), fix="bedplate data add --chunked PATH")
    try:
        pointer = Pointer(**json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError("not a .chunks file", value=str(file)) from error
    if len(pointer.name) != 2 * DIGEST_BYTES or not set(pointer.name) <= set("0123456789abcdef"):
        raise DataError("not a .chunks file", value=str(file), fix="take it from version control")
    return pointer


def chunks_of(path: Path, progress: Progress) -> list[Chunk]:
    """The chunks of a file, in order: all cuts first, for which one byte in 17 is read, then two threads hash what lies between.

    2 GiB take 0.45 s so; 0.60 where threads hash while cuts are found (they wait for the interpreter's lock) or where the file is mapped.
    """
    with path.open("rb") as file:
        descriptor = file.fileno()
        nbytes = os.fstat(descriptor).st_size
        cuts = [0, *ends(nbytes, lambda at, count: os.pread(descriptor, count, at))]
        spans = list(pairwise(cuts))

        def hashed(part: Sequence[tuple[int, int]]) -> list[Chunk]:
            space = memoryview(bytearray(max(end - begin for begin, end in part)))
            found = []
            for begin, end in part:
                count = os.preadv(descriptor, [space[: end - begin]], begin)
                found.append(Chunk(begin, end, blake3(space[:count]).digest()))
                progress(count)
            return found

        with ThreadPoolExecutor(HASHING) as pool:
            waiting = [pool.submit(hashed, spans[first : first + BATCH]) for first in range(0, len(spans), BATCH)]
            return [chunk for each in waiting for chunk in each.result()]


def _name(chunks: Sequence[Chunk]) -> str:
    return blake3(b"".join(chunk.digest for chunk in chunks)).hexdigest()


def _folder(repository: Repository) -> Path:
    return repository.cache.folder.parents[1] / "chunks"


def _index(repository: Repository) -> sqlite3.Connection:
    path = repository.notes.with_name("bedplate-chunks.db")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        index = sqlite3.connect(path, timeout=60, isolation_level=None)
        index.execute("pragma journal_mode=wal")
        index.execute("pragma synchronous=off")  # what a power cut spoils is looked up in packs that are there
        index.executescript(_SCHEMA)
    except sqlite3.DatabaseError as error:
        raise DataError(f"the notes about chunks are damaged: {error}", value=str(path), fix="delete the file") from error
    return index


def _known(index: sqlite3.Connection, target: str, now: Stamp) -> Pointer | None:
    row = index.execute("select inode, mtime_ns, size_bytes, name from seen where path = ?", (target,)).fetchone()
    if row is None or Stamp(*row[:3]) != now:
        return None
    name, count = row[3].split()
    return Pointer(name, now.size_bytes, int(count))


def _fresh(index: sqlite3.Connection, folder: Path, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that no pack holds, each once."""
    packs: dict[str, bool] = {}
    fresh: dict[bytes, Chunk] = {}
    for chunk in chunks:
        row = index.execute("select pack from places where digest = ?", (chunk.digest,)).fetchone()
        if row is not None and row[0] not in packs:
            packs[row[0]] = (folder / "packs" / row[0][:2] / row[0][2:]).exists()
        if row is None or not packs[row[0]]:
            fresh.setdefault(chunk.digest, chunk)
    return list(fresh.values())


def _pack(source: Path, pack: Path, chunks: Sequence[Chunk] | None, kinds: Sequence[str]) -> None:
    """Let a pack hold those chunks of a file, or be the file."""
    pack.parent.mkdir(parents=True, exist_ok=True)
    if chunks is None:
        if linked(source, pack, kinds, READ_ONLY) == "hardlink":
            pack.chmod(READ_ONLY)
        return
    with beside(pack) as temporary:
        with source.open("rb") as file, temporary.open("xb") as out:
            for chunk in chunks:
                file.seek(chunk.begin)
                out.write(file.read(chunk.end - chunk.begin))
        temporary.chmod(READ_ONLY)


def _note(index: sqlite3.Connection, chunks: Sequence[Chunk], pack: str, whole: bool) -> None:
    rows, begin = [], 0
    for chunk in chunks:
        rows.append((chunk.digest, pack, chunk.begin if whole else begin, chunk.end - chunk.begin))
        begin += chunk.end - chunk.begin
    index.execute("begin immediate")
    index.executemany("insert or replace into places values (?, ?, ?, ?)", rows)
    index.execute("commit")


def _list(index: sqlite3.Connection, file: Path, chunks: Sequence[Chunk]) -> None:
    query = "select pack, begin, length from places where digest = ?"
    write_json(file, [[chunk.digest.hex(), *index.execute(query, (chunk.digest,)).fetchone()] for chunk in chunks], mode=READ_ONLY)


def _point(repository: Repository, target: str, pointer: Pointer) -> None:
    file = repository.root / f"{target}{SUFFIX}"
    if not file.exists() or read_pointer(file) != pointer:
        write_json(file, asdict(pointer))


def _read(folder: Path, row: Sequence[object]) -> bytes:
    """The bytes of one row of a list."""
    _, pack, begin, length = row
    if not (isinstance(pack, str) and isinstance(begin, int) and isinstance(length, int)) or not pack.isalnum():
        raise BedplateError("the list of a file's chunks is damaged", value=row, fix="add the file again")
    path = folder / "packs" / pack[:2] / pack[2:]
    if not path.exists():
        raise NotFound("the cache lacks a pack of chunks", value=pack, fix="add the file again where it is")
    with path.open("rb") as file:
        return os.pread(file.fileno(), length, begin)
