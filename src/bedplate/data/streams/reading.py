"""Reading a stream into columns: the bytes of records, where they lie and when they arrived, and how far that was.

A stream that can give columns is asked for them (Kafka); of others blocks are taken (`blocks`).
Does not know: what the bytes mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from bedplate.core.protocols import Stream
from bedplate.data.records import arrow_of
from bedplate.data.streams.blocks import read_blocks


@dataclass(frozen=True)
class Records:
    """Records of one partition: `values` binary, `system` their system columns. All before offset `end` was read."""

    partition: int
    values: pa.Array[Any]
    system: pa.Table
    end: int


@runtime_checkable
class RecordReader(Protocol):
    """A stream that can give columns."""

    def read_records(self, partition: int, offset: int, limit: int, limit_bytes: int) -> Records:
        """Records from `offset` on, at most `limit` of them and about `limit_bytes` bytes; offsets without records count as read."""


def read_records(stream: Stream, partition: int, offset: int, end: int, limit: int, limit_bytes: int) -> Records:
    """At most `limit` records of any stream from `offset` to before `end`, about `limit_bytes` bytes of them."""
    limit = min(limit, end - offset)
    if not isinstance(stream, RecordReader):
        values, system = arrow_of(read_blocks(stream, partition, offset, limit, limit_bytes))
        return Records(partition, values, system, offset + len(values))
    records = stream.read_records(partition, offset, limit, limit_bytes)
    if records.end <= end:
        return records
    before = int((records.system["_offset"].to_numpy() < end).sum())
    return Records(partition, records.values.slice(0, before), records.system.slice(0, before), end)
