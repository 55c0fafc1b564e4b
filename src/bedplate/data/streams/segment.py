"""A segment of the embedded log: one file of framed batches, and the index over it that is rebuilt by reading on.

    segment  = head frame, batch frame*            file name: the offset of its first record, 20 digits, `.seg`
    frame    = magic (4 bytes), length of the body (u32), CRC-32 of the body (u32), body
    head     = JSON {"base": offset, "producers": {name: next sequence}}       what was known when the segment began
    batch    = first offset (u64), first sequence (u64), arrived_at seconds (f64), count (u32), length of the producer's name (u16),
               the name, `count` lengths (u32), the records one after the other            all little-endian

A frame is written by one append and synced before the next one begins, so only the last can be torn; a frame that is short or damaged
with nothing behind it never happened. Damage with something behind it is an error.
Does not know: locks, partitions or when a segment is full (`log`).
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import DataError
from bedplate.data.streams.blocks import Block

SUFFIX = ".seg"
_FRAME = struct.Struct("<4sII")
_BATCH = struct.Struct("<QQdIH")
_HEAD_MAGIC = b"BLh1"
_BATCH_MAGIC = b"BLb1"
_INDEX_BYTES = 1 << 16  # an index entry for every 64 KiB: reading on from the nearest one is cheap


def segment_name(base: int) -> str:
    """The file name of the segment whose first record has offset `base`."""
    return f"{base:020d}{SUFFIX}"


def head_frame(base: int, producers: Mapping[str, int]) -> bytes:
    """The frame that begins a segment."""
    return _framed(_HEAD_MAGIC, json.dumps({"base": base, "producers": dict(producers)}, sort_keys=True).encode())


def batch_frame(offset: int, sequence: int, arrived_at_s: float, producer: str, values: Sequence[bytes]) -> bytes:
    """The frame of one batch of records."""
    name = producer.encode()
    fixed = _BATCH.pack(offset, sequence, arrived_at_s, len(values), len(name))
    lengths = struct.pack(f"<{len(values)}I", *map(len, values))
    return _framed(_BATCH_MAGIC, b"".join((fixed, name, lengths, *values)))


def _framed(magic: bytes, body: bytes) -> bytes:
    return _FRAME.pack(magic, len(body), zlib.crc32(body)) + body


@dataclass(frozen=True)
class _Frame:
    magic: bytes
    start: int
    end: int
    whole: bool


def _frame_at(data: memoryview, position: int) -> _Frame | None:
    """The frame that begins at `position`; None when its end is not there (yet)."""
    if len(data) - position < _FRAME.size:
        return None
    magic, length, checksum = _FRAME.unpack_from(data, position)
    start = position + _FRAME.size
    if magic not in (_HEAD_MAGIC, _BATCH_MAGIC) or len(data) - start < length:
        return None
    return _Frame(magic, start, start + length, zlib.crc32(data[start : start + length]) == checksum)


class Segment:
    """One file, read forward as it grows. What is below `end_position` (bytes) is whole and never changes."""

    def __init__(self, path: Path) -> None:
        """Begin before the first byte; `refresh` reads."""
        self.path = path
        self.base = int(path.name.removesuffix(SUFFIX))
        self.end_offset = self.base
        self.end_position = 0
        self.producers: dict[str, int] = {}
        self._index_offsets: list[int] = []
        self._index_positions: list[int] = []

    def refresh(self) -> None:
        """Take in the whole frames that were appended since the last call. Raises DataError for damage inside the file."""
        if self.path.stat().st_size > self.end_position and not self._read_on() and not self._read_on():
            # the second look tells real damage from a torn tail that a writer was just then cutting off and writing over
            where = f"{self.path} at byte {self.end_position}"
            raise DataError("the log is damaged inside a segment", value=where, fix="restore the topic's folder from a copy")

    def _read_on(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(self.end_position)
            return self.take(file.read())

    def take(self, data: bytes) -> bool:
        """Index the whole frames of `data`, which lies at `end_position`; False when a damaged one has something behind it."""
        view = memoryview(data)
        position = 0
        while (frame := _frame_at(view, position)) is not None:
            if not frame.whole:
                return frame.end == len(view)
            if frame.magic == _HEAD_MAGIC:
                self.producers = dict(json.loads(bytes(view[frame.start : frame.end]))["producers"])
            else:
                self._take_batch(view, frame.start)
            self.end_position += frame.end - position
            position = frame.end
        return True

    def _take_batch(self, view: memoryview, start: int) -> None:
        offset, sequence, _, count, name_length = _BATCH.unpack_from(view, start)
        if not self._index_positions or self.end_position - self._index_positions[-1] >= _INDEX_BYTES:
            self._index_offsets.append(offset)
            self._index_positions.append(self.end_position)
        begin = start + _BATCH.size
        self.producers[str(view[begin : begin + name_length], "utf-8")] = sequence + count
        self.end_offset = offset + count

    def blocks(self, partition: int, offset: int) -> Iterator[Block]:
        """The batches from the one that holds `offset` on, without a copy of their bytes."""
        if offset >= self.end_offset:
            return
        with self.path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), self.end_position, prot=mmap.PROT_READ))
        position = self._index_positions[bisect_right(self._index_offsets, offset) - 1]
        while position < self.end_position:
            _, length, _ = _FRAME.unpack_from(data, position)
            start = position + _FRAME.size
            first, _, arrived_at_s, count, name_length = _BATCH.unpack_from(data, start)
            position = start + length
            if first + count > offset:
                begin = start + _BATCH.size + name_length
                lengths = data[begin : begin + 4 * count].cast("I")
                yield Block(partition, first, arrived_at_s, lengths, data[begin + 4 * count : position])
