"""Reading a checkpoint: every byte used was verified against the digest that the ledger knows, by manifest, indexes and chunks.

A part is read from the first place that has it whole (memory, a peer, the disk, an object store); where one place's bytes are damaged, the
next place is asked. Regions are read, not files: a rank of another mesh takes only the chunks that hold what it needs.
Does not know: where a place is (`tiers`), or what tensors mean (`capture`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

import torch

from bedplate.core.digest import digest_bytes
from bedplate.core.errors import BedplateError, CheckpointError
from bedplate.train.checkpoints.capture import merged
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.layout import DTYPES, Box, Piece, covered
from bedplate.train.checkpoints.parts import MANIFEST_FILE, Part, chunk_digest, part_of

READ_THREADS = 4


class Place(Protocol):
    """Somewhere that checkpoints lie: one tier."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    def small(self, location: str, name: str) -> bytes:
        """The content of a small file. Raises CheckpointError when it is not there."""

    def file(self, location: str, name: str, nbytes: int) -> FileBytes:
        """A file of that size, to be read in chunks. Raises CheckpointError when it is not there, or of another size."""


class FileBytes(Protocol):
    """The bytes of one file."""

    def chunk(self, begin: int, end: int) -> memoryview:
        """The bytes from `begin` to before `end`. Raises CheckpointError."""


@dataclass
class Stored:
    """A checkpoint that can be read. Use `opened`."""

    location: str
    position: Position
    facts: Mapping[str, Any]
    parts: list[Part]
    places: Sequence[Place]
    tell: Callable[[str], None]
    _files: dict[int, list[tuple[Place, FileBytes | BedplateError]]] = field(default_factory=dict)
    _chunks: dict[tuple[int, int], memoryview] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _told: set[int] = field(default_factory=set)

    @property
    def trees(self) -> list[Any]:
        """The trees of the whole, one for each object in `state`."""
        return merged([part.trees for part in self.parts])

    @property
    def generators(self) -> list[Mapping[str, Any]]:
        """The random generators of every rank."""
        return [part.generators for part in self.parts]

    def __post_init__(self) -> None:
        self._pieces: dict[str, list[tuple[int, Piece]]] = {}
        for number, part in enumerate(self.parts):
            for piece in part.pieces:
                self._pieces.setdefault(piece.held.name, []).append((number, piece))

    def verify(self, numbers: Sequence[int]) -> None:
        """Check every byte of these parts. Raises CheckpointError, naming the file, when no place has a chunk whole."""
        wanted = [(number, chunk) for number in numbers for chunk in range(len(self.parts[number].chunks))]
        with ThreadPoolExecutor(READ_THREADS) as pool:
            for _ in pool.map(lambda each: self._chunk(*each), wanted):
                pass

    def whole(self, name: str) -> tuple[int, ...]:
        """The shape of a whole tensor. Raises CheckpointError when there is none of that name."""
        if name not in self._pieces:
            raise CheckpointError("a checkpoint lacks a tensor", value=name)
        return self._pieces[name][0][1].held.whole

    def nbytes(self, name: str) -> int:
        """The size of a whole tensor. Raises CheckpointError when there is none of that name."""
        return math.prod(self.whole(name)) * DTYPES[self._pieces[name][0][1].held.dtype][1]

    def read(self, name: str, box: Box) -> torch.Tensor:
        """A region of a tensor, on the CPU, in memory of its own. Raises CheckpointError."""
        self.whole(name)
        pieces = self._pieces[name]
        if not covered(box, [piece.held.box for _, piece in pieces]):
            raise CheckpointError("a checkpoint has not all of a tensor", value=name)
        found = torch.empty(box.shape, dtype=getattr(torch, pieces[0][1].held.dtype))
        for number, piece in pieces:
            common = box.intersection(piece.held.box)
            if common is not None:
                rows, held = self._rows(number, piece, common)
                found[common.within(box)] = rows[common.within(held)]
        return found

    def _rows(self, number: int, piece: Piece, common: Box) -> tuple[torch.Tensor, Box]:
        """The part of a piece from the first to the last row (of its first dimension) that `common` touches."""
        box = piece.held.box
        dtype, size = getattr(torch, piece.held.dtype), DTYPES[piece.held.dtype][1]
        if not box.shape:
            return self._bytes(number, piece.begin, piece.begin + size).view(dtype).reshape(()), box
        row = size * box.elements // box.shape[0]
        first, count = common.offset[0] - box.offset[0], common.shape[0]
        data = self._bytes(number, piece.begin + first * row, piece.begin + (first + count) * row)
        shape = (count, *box.shape[1:])
        return data.view(dtype).view(shape), Box((common.offset[0], *box.offset[1:]), shape)

    def _bytes(self, number: int, begin: int, end: int) -> torch.Tensor:
        """Verified bytes of a part, in memory of their own."""
        size = self.parts[number].chunk_bytes
        found = torch.empty(end - begin, dtype=torch.uint8)
        for chunk in range(begin // size, -(-end // size)):
            data = self._chunk(number, chunk)
            low, high = max(begin, chunk * size), min(end, chunk * size + len(data))
            found[low - begin : high - begin] = torch.frombuffer(data, dtype=torch.uint8)[low - chunk * size : high - chunk * size]
        return found

    def _chunk(self, number: int, chunk: int) -> memoryview:
        """A verified chunk, from the first place that has it whole."""
        known = self._chunks.get((number, chunk))
        if known is not None:
            return known
        part = self.parts[number]
        begin, end = chunk * part.chunk_bytes, min((chunk + 1) * part.chunk_bytes, part.nbytes)
        problems = []
        for place, file in self._opened(number):
            try:
                if isinstance(file, BedplateError):
                    raise file
                data = file.chunk(begin, end)
                if chunk_digest(data) != part.chunks[chunk]:
                    raise CheckpointError(
                        "a checkpoint's file is damaged", value=f"{place.name}: {self.location}/{part.file}, byte {begin} on"
                    )
            except BedplateError as error:
                problems.append(error)
                continue
            self._chunks[number, chunk] = data
            if problems and number not in self._told:
                self._told.add(number)
                self.tell(f"{problems[0].one_line()}; it was read from {place.name}")
            return data
        raise problems[0] if problems else CheckpointError("a checkpoint's file is nowhere", value=f"{self.location}/{part.file}")

    def _opened(self, number: int) -> list[tuple[Place, FileBytes | BedplateError]]:
        """The file of a part in each place, or why it is not there."""
        with self._lock:
            if number not in self._files:
                part = self.parts[number]
                self._files[number] = [(place, _file(place, self.location, part)) for place in self.places]
            return self._files[number]


def opened(location: str, digest: str, places: Sequence[Place], tell: Callable[[str], None] = lambda _: None) -> Stored:
    """The checkpoint at `location` whose manifest has this SHA-256; its manifest and indexes are verified, its parts are not read yet.

    Raises CheckpointError, naming the file, when no place has them whole.
    """
    manifest = json.loads(_small(location, MANIFEST_FILE, digest, places))
    if manifest.get("format") != 2:
        raise CheckpointError("a checkpoint of a format that is not known", value=manifest.get("format"))
    parts = [part_of(_small(location, each["index"], each["sha256"], places)) for each in manifest["parts"]]
    return Stored(location, Position(**manifest["position"]), manifest["facts"], parts, places, tell)


def _file(place: Place, location: str, part: Part) -> FileBytes | BedplateError:
    try:
        return place.file(location, part.file, part.nbytes)
    except BedplateError as error:
        return error


def _small(location: str, name: str, digest: str, places: Sequence[Place]) -> bytes:
    problem: BedplateError | None = None
    for place in places:
        try:
            data = place.small(location, name)
            if digest_bytes(data) == digest:
                return data
            raise CheckpointError("a checkpoint's file was changed", value=f"{place.name}: {location}/{name}")
        except BedplateError as error:
            problem = problem or error
    raise problem or CheckpointError("a checkpoint is nowhere", value=location)
