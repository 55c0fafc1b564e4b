"""Blocks: records of a stream as one run of bytes and their lengths, so that reading many costs no Python object for each.

A stream that can give blocks itself is asked for them; for any other they are packed from its records.
Does not know: what the bytes mean, or how a stream stores them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, runtime_checkable

from bedplate.core.protocols import Stream, StreamRecord

_RECORDS_A_READ = 1000


@dataclass(frozen=True)
class Block:
    """Consecutive records that arrived together, at `arrived_at_s` seconds since the epoch.

    `lengths` has one unsigned 32-bit number a record (bytes), `payload` the records one after the other.
    """

    partition: int
    first_offset: int
    arrived_at_s: float
    lengths: memoryview
    payload: memoryview

    @property
    def end_offset(self) -> int:
        """The offset after the last record."""
        return self.first_offset + len(self.lengths)

    def records(self) -> Iterable[StreamRecord]:
        """The records, one object each."""
        position = 0
        for index, length in enumerate(self.lengths):
            value = bytes(self.payload[position : position + length])
            yield StreamRecord(self.partition, self.first_offset + index, self.arrived_at_s, value)
            position += length

    def cut(self, start: int, limit: int, limit_bytes: int) -> Block:
        """The part from offset `start` on with at most `limit` records and `limit_bytes` bytes, but at least one record."""
        skip = start - self.first_offset
        begin = sum(self.lengths[:skip])
        end, count = begin, 0
        for length in self.lengths[skip : skip + limit]:
            if count and end + length - begin > limit_bytes:
                break
            end, count = end + length, count + 1
        return Block(self.partition, start, self.arrived_at_s, self.lengths[skip : skip + count], self.payload[begin:end])


@runtime_checkable
class BlockReader(Protocol):
    """A stream that can give blocks."""

    def read_blocks(self, partition: int, offset: int, limit: int, limit_bytes: int) -> Sequence[Block]:
        """Blocks from `offset` on with at most `limit` records and `limit_bytes` bytes in all, but at least one record if there is one."""


def read_blocks(stream: Stream, partition: int, offset: int, limit: int, limit_bytes: int) -> Sequence[Block]:
    """Blocks of any stream, as `BlockReader.read_blocks` gives them."""
    if isinstance(stream, BlockReader):
        return stream.read_blocks(partition, offset, limit, limit_bytes)
    records: list[StreamRecord] = []
    read_bytes = 0
    while len(records) < limit and read_bytes < limit_bytes:
        more = stream.read(partition, offset + len(records), min(_RECORDS_A_READ, limit - len(records)))
        if not more:
            break
        records.extend(more)
        read_bytes += sum(len(record.value) for record in more)
    return [_packed(list(group)) for _, group in groupby(records, key=lambda record: record.arrived_at_s)]


def _packed(records: Sequence[StreamRecord]) -> Block:
    first = records[0]
    lengths = array("I", [len(record.value) for record in records])
    payload = b"".join(record.value for record in records)
    return Block(first.partition, first.offset, first.arrived_at_s, memoryview(lengths), memoryview(payload))
