"""A block: columns of numbers, texts and sketches as bytes, to be stored and read again without looking at every value.

    offset  bytes               what
    0       1                   the layout's version, 1
    1       1                   rows of the matrix, R
    2       1                   rows of the marks, C
    3       1                   lists of sketches, K
    4       4                   columns, n
    8       4                   texts, t
    12      8 R n               the matrix, int64 [R, n]: counts, times, float64 by their bits, places of texts (-1: none)
    then    C n                 the marks, uint8 [C, n]
    then    4 K n               the length of each sketch, uint32 [K, n]
    then    8 sum of lengths    the sketches, uint64, sorted
    then    4 t                 the length of each text in UTF-8, uint32
    then    the rest            the texts

All numbers are little-endian.
Does not know: what a row of the matrix means (`tiles`, `summary`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.errors import DataError
from bedplate.data.keys import Bools, Ints

VERSION = 1
_HEADER = struct.Struct("<BBBBII")
Marks = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Block:
    """`matrix` int64 [R, n], `marks` uint8 [C, n], `texts`, and for each of K sketched columns a list of n sorted hashes."""

    matrix: Ints
    marks: Marks
    texts: tuple[str, ...] = ()
    sketches: tuple[tuple[Hashes, ...], ...] = ()

    @property
    def size(self) -> int:
        """How many columns there are, n."""
        return int(self.matrix.shape[1])

    def take(self, places: Ints | Bools | slice) -> Block:
        """Some of the columns, in that order."""
        kept = np.arange(self.size)[places].tolist() if self.sketches else []
        sketches = tuple(tuple(row[place] for place in kept) for row in self.sketches)
        return Block(self.matrix[:, places], self.marks[:, places], self.texts, sketches)

    def encode(self, text_rows: Sequence[int]) -> bytes:
        """The bytes; of the texts only those that are named in one of `text_rows` of the matrix."""
        matrix, texts = self.matrix, self.texts
        if text_rows and texts:
            matrix, texts = _compacted(matrix, texts, text_rows)
        parts = [_HEADER.pack(VERSION, matrix.shape[0], self.marks.shape[0], len(self.sketches), self.size, len(texts))]
        parts += [matrix.astype("<i8").tobytes(), self.marks.tobytes()]
        if self.sketches:
            parts.append(np.array([len(one) for row in self.sketches for one in row], "<u4").tobytes())
            parts += [one.astype("<u8").tobytes() for row in self.sketches for one in row]
        if texts:
            encoded = [text.encode() for text in texts]
            parts += [np.array([len(one) for one in encoded], "<u4").tobytes(), *encoded]
        return b"".join(parts)


def decode(body: bytes, start: int = 0) -> Block:
    """The block whose bytes begin at `start`. Raises DataError for another layout's version."""
    version, rows, marks_rows, sketched, size, count = _HEADER.unpack_from(body, start)
    if version != VERSION:
        raise DataError("a row of the online store has another layout", value=version, fix="run the endpoint's features step again")
    at = start + _HEADER.size
    matrix = np.frombuffer(body, "<i8", rows * size, at).reshape(rows, size)
    at += 8 * rows * size
    marks = np.frombuffer(body, np.uint8, marks_rows * size, at).reshape(marks_rows, size)
    at += marks_rows * size
    sketches: list[tuple[Any, ...]] = []
    if sketched:
        lengths = np.frombuffer(body, "<u4", sketched * size, at).tolist()
        at += 4 * sketched * size
        found = []
        for length in lengths:
            found.append(np.frombuffer(body, "<u8", length, at))
            at += 8 * length
        sketches = [tuple(found[row * size : (row + 1) * size]) for row in range(sketched)]
    texts: list[str] = []
    if count:
        lengths = np.frombuffer(body, "<u4", count, at).tolist()
        at += 4 * count
        for length in lengths:
            texts.append(body[at : at + length].decode())
            at += length
    return Block(matrix, marks, tuple(texts), tuple(sketches))


def joined(first: Block, second: Block, text_rows: Sequence[int]) -> Block:
    """The columns of both, first those of `first`."""
    matrix = second.matrix
    if text_rows and first.texts:
        matrix = matrix.copy()
        rows = list(text_rows)
        matrix[rows] = np.where(matrix[rows] >= 0, matrix[rows] + len(first.texts), -1)
    sketches = tuple(one + other for one, other in zip(first.sketches, second.sketches, strict=True))
    texts = first.texts + second.texts if text_rows else ()
    return Block(np.hstack([first.matrix, matrix]), np.hstack([first.marks, second.marks]), texts, sketches)


def _compacted(matrix: Ints, texts: Sequence[str], text_rows: Sequence[int]) -> tuple[Ints, tuple[str, ...]]:
    rows = list(text_rows)
    used = np.unique(matrix[rows])
    used = used[used >= 0]
    place: dict[str, int] = {}
    for old in used.tolist():
        place.setdefault(texts[old], len(place))
    new = np.full(len(texts) + 1, -1, np.int64)
    new[used] = [place[texts[old]] for old in used.tolist()]
    result = matrix.copy()
    result[rows] = new[matrix[rows]]  # -1 takes the last, which is -1
    return result, tuple(place)
