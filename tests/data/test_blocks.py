"""Blocks: cut to size, and packed from the records of a stream that has none."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from bedplate.core.clock import SimClock
from bedplate.core.protocols import Stream, StreamRecord
from bedplate.data.streams.blocks import Block, BlockReader, read_blocks
from bedplate.data.streams.log import Log


def block(*values: bytes, first: int = 10) -> Block:
    return Block(0, first, 1.5, memoryview(array("I", map(len, values))), memoryview(b"".join(values)))


@pytest.mark.parametrize(
    ("start", "limit", "limit_bytes", "expected"),
    [
        (10, 9, 99, [b"aa", b"", b"bbb", b"c"]),
        (11, 9, 99, [b"", b"bbb", b"c"]),
        (10, 2, 99, [b"aa", b""]),
        (10, 9, 4, [b"aa", b""]),
        (10, 9, 5, [b"aa", b"", b"bbb"]),
        (12, 9, 1, [b"bbb"]),
        (12, 9, 0, [b"bbb"]),
    ],
)
def test_a_block_is_cut_to_size_but_keeps_a_record(start: int, limit: int, limit_bytes: int, expected: list[bytes]) -> None:
    cut = block(b"aa", b"", b"bbb", b"c").cut(start, limit, limit_bytes)
    assert [record.value for record in cut.records()] == expected
    assert [record.offset for record in cut.records()] == list(range(start, start + len(expected)))
    assert cut.end_offset == start + len(expected)


class RecordsOnly:
    """A stream that has nothing but the protocol."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.identity = log.identity
        self.end_offsets, self.append, self.next_sequence = log.end_offsets, log.append, log.next_sequence

    def read(self, partition: int, offset: int, limit: int) -> list[StreamRecord]:
        return list(self._log.read(partition, offset, limit))


def test_blocks_of_a_stream_that_gives_only_records_are_the_same(tmp_path: Path) -> None:
    clock = SimClock()
    log = Log(tmp_path / "t", clock)
    for number in range(5):
        log.append([b"%d" % number * number, b"x"], producer="p", sequence=2 * number)
        clock.sleep(1)
    plain: Stream = RecordsOnly(log)
    assert isinstance(log, BlockReader)
    assert not isinstance(plain, BlockReader)
    for offset in (0, 3, 9, 10):
        packed = [record for block in read_blocks(plain, 0, offset, 6, 1 << 20) for record in block.records()]
        assert packed == log.read(0, offset, 6)
