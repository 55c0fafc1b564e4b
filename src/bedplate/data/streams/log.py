"""The embedded log: a durable, partitioned stream in a folder, for a machine without Kafka.

    TOPIC/topic.json            identity and number of partitions, written last when the topic is made
    TOPIC/lock                  taken (flock) by whoever appends
    TOPIC/00000/*.seg           the segments of partition 0 (`segment` has the format)

Readers take no lock: they see whole batches only. A writer cuts off a torn tail before it appends, under the lock, so it may have been
left by any process. Producers number their records, and a record that is sent again is not stored again. All records of a producer go to
one partition, chosen by the CRC-32 of its name, unless the producer names a partition; its numbers run on over all partitions.
Does not know: what a record means, who reads it, or retention (nothing is ever deleted).
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import RLock

from bedplate.core.atomic import sync, write_bytes, write_json
from bedplate.core.clock import Clock
from bedplate.core.errors import DataError
from bedplate.core.protocols import StreamRecord
from bedplate.data.streams.blocks import Block
from bedplate.data.streams.segment import SUFFIX, Segment, batch_frame, head_frame, segment_name

SEGMENT_BYTES = 64 << 20
BATCH_BYTES = 16 << 20
RECORD_BYTES = 64 << 20
_NO_LIMIT = 1 << 62


class Log:
    """A topic in `folder`. Safe to use from several threads and processes at once; nobody else may change the folder's files."""

    def __init__(self, folder: Path, clock: Clock, partitions: int = 1) -> None:
        """Open the topic, or make it with so many partitions; a topic that exists keeps the number it has.

        Raises DataError for a number of partitions that is not 1 to 1024.
        """
        self._folder = folder
        self._clock = clock
        self._mutex = RLock()
        if not (folder / "topic.json").exists():
            _create(folder, partitions)
        topic = json.loads((folder / "topic.json").read_text())
        self.identity: str = topic["identity"]
        self._partitions = [_Partition(number, folder / f"{number:05d}") for number in range(topic["partitions"])]

    def begin_offsets(self) -> dict[int, int]:
        """Zeros: nothing is ever deleted."""
        return {partition.number: 0 for partition in self._partitions}

    def end_offsets(self) -> dict[int, int]:
        """For each partition the offset of the next record."""
        with self._mutex:
            return {partition.number: partition.refresh().end_offset for partition in self._partitions}

    def read(self, partition: int, offset: int, limit: int) -> Sequence[StreamRecord]:
        """At most `limit` records from `offset` on; fewer at the end. Raises DataError for a partition that is not there."""
        blocks = self.read_blocks(partition, offset, limit, _NO_LIMIT)
        return [record for block in blocks for record in block.records()]

    def read_blocks(self, partition: int, offset: int, limit: int, limit_bytes: int) -> Sequence[Block]:
        """The same records as blocks, at most `limit_bytes` bytes of them but at least one record if there is one."""
        if offset < 0 or limit < 0:
            raise DataError("an offset and a limit are not negative", value=(offset, limit))
        with self._mutex:
            found = self._partition(partition)
            end_offset = found.refresh().end_offset
            blocks: list[Block] = []
            while offset < end_offset and limit > 0:
                for block in found.holding(offset).blocks(partition, offset):
                    part = block.cut(offset, limit, limit_bytes)
                    if blocks and len(part.payload) > limit_bytes:  # a cut has at least one record, even if it is too large
                        return blocks
                    blocks.append(part)
                    offset, limit, limit_bytes = part.end_offset, limit - len(part.lengths), limit_bytes - len(part.payload)
                    if offset < block.end_offset or limit == 0:
                        return blocks
            return blocks

    def append(self, values: Sequence[bytes], *, producer: str, sequence: int, partition: int | None = None) -> int:
        """Append records that `producer` numbers from `sequence` on, durably; returns how many of them were new.

        Records that are already there are passed over. Raises DataError for a gap in the numbers, a record above 64 MiB, or a producer's
        name that is empty or longer than 255 bytes.
        """
        if not 0 < len(producer.encode()) <= 255:
            raise DataError("a producer's name has 1 to 255 bytes", value=producer)
        target = self._partition(zlib.crc32(producer.encode()) % len(self._partitions) if partition is None else partition)
        with self._locked():
            expected = self.next_sequence(producer)
            if sequence > expected:
                raise DataError(
                    "the producer left a gap in its numbers", value=sequence, fix=f"go on with {expected}, which `next_sequence` gives"
                )
            new = values[expected - sequence :]
            for batch in _batches(new):
                target.append(expected, self._clock.now(), producer, batch)
                expected += len(batch)
            return len(new)

    def next_sequence(self, producer: str) -> int:
        """The number of the next record of `producer`."""
        with self._mutex:
            return max(partition.refresh().producers.get(producer, 0) for partition in self._partitions)

    def _partition(self, number: int) -> _Partition:
        if not 0 <= number < len(self._partitions):
            raise DataError("the stream has no such partition", value=number, fix=f"partitions are 0 to {len(self._partitions) - 1}")
        return self._partitions[number]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex, _file_lock(self._folder):
            yield


class _Partition:
    """The segments of one partition, oldest first; the last one grows."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self._folder = folder
        self._segments = [Segment(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]

    def refresh(self) -> Segment:
        """Take in what was appended; returns the last segment."""
        self._segments[-1].refresh()
        while self._segments[-1].end_offset > self._segments[-1].base:
            following = self._folder / segment_name(self._segments[-1].end_offset)
            if not following.exists():
                break
            self._segments.append(Segment(following))
            self._segments[-1].refresh()
        return self._segments[-1]

    def holding(self, offset: int) -> Segment:
        """The segment that holds `offset`. A full segment is read when it is first asked for."""
        segment = self._segments[bisect_right(self._segments, offset, key=lambda candidate: candidate.base) - 1]
        segment.refresh()
        if offset >= segment.end_offset:
            raise DataError(
                "a segment of the log ends before the next one begins",
                value=str(segment.path),
                fix="restore the topic's folder from a copy",
            )
        return segment

    def append(self, sequence: int, arrived_at_s: float, producer: str, values: Sequence[bytes]) -> None:
        """Write one frame and sync it. The caller holds the lock."""
        last = self.refresh()
        if last.end_position >= SEGMENT_BYTES:
            path = self._folder / segment_name(last.end_offset)
            write_bytes(path, head_frame(last.end_offset, last.producers))
            last = self.refresh()
        frame = batch_frame(last.end_offset, sequence, arrived_at_s, producer, values)
        descriptor = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size > last.end_position:  # a killed writer's torn tail: under the lock nobody is still writing it
                os.ftruncate(descriptor, last.end_position)
            rest = memoryview(frame)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        last.take(frame)


def _batches(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    ends = [0]
    size = 0
    for index, value in enumerate(values):
        if len(value) > RECORD_BYTES:
            raise DataError(
                "a record is larger than the log takes", value=f"{len(value)} bytes", fix="store the object in a file and append its name"
            )
        if size and size + len(value) > BATCH_BYTES:
            ends.append(index)
            size = 0
        size += len(value)
    for start, end in pairwise([*ends, len(values)]):
        if end > start:
            yield values[start:end]


def _create(folder: Path, partitions: int) -> None:
    if not 1 <= partitions <= 1024:
        raise DataError("a stream has 1 to 1024 partitions", value=partitions)
    folder.mkdir(parents=True, exist_ok=True)
    with _file_lock(folder):
        if (folder / "topic.json").exists():
            return
        for number in range(partitions):
            write_bytes(folder / f"{number:05d}" / segment_name(0), head_frame(0, {}))
        sync(folder)
        write_json(folder / "topic.json", {"format": 1, "identity": os.urandom(16).hex(), "partitions": partitions})


@contextmanager
def _file_lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
