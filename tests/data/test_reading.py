"""Records of any stream as columns: what is read ends where it is told, and offsets without records count as read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from bedplate.core.clock import SimClock
from bedplate.core.protocols import StreamRecord
from bedplate.data.schema import SYSTEM
from bedplate.data.streams.log import Log
from bedplate.data.streams.reading import Records, read_records


class Compacted:
    """A stream of columns in which every record but each tenth was taken away, and that reads further than it is asked to."""

    identity = "compacted"

    def begin_offsets(self) -> dict[int, int]:
        return {0: 0}

    def end_offsets(self) -> dict[int, int]:
        return {0: 100}

    def read(self, partition: int, offset: int, limit: int) -> Sequence[StreamRecord]:
        raise NotImplementedError("it gives columns")

    def read_records(self, partition: int, offset: int, limit: int, limit_bytes: int) -> Records:
        places = [place for place in range(0, 100, 10) if place >= offset][: max(1, limit)]
        values = pa.array([b"%d" % place for place in places], pa.binary())
        system = pa.table({"_arrived_at": [0] * len(places), "_partition": [partition] * len(places), "_offset": places}).cast(SYSTEM)
        return Records(partition, values, system, places[-1] + 1 if len(places) == limit else 100)


def test_a_log_is_read_by_its_blocks(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", SimClock(7.5))
    log.append([b"a", b"bb", b"", b"d"], producer="p", sequence=0)
    read = read_records(log, 0, 1, 4, 2, 1 << 20)
    assert (read.partition, read.values.to_pylist(), read.system["_offset"].to_pylist(), read.end) == (0, [b"bb", b""], [1, 2], 3)
    assert {moment.timestamp() for moment in read.system["_arrived_at"].to_pylist()} == {7.5}
    assert read_records(log, 0, 4, 4, 2, 1 << 20).end == 4


def test_offsets_without_records_count_as_read_and_nothing_behind_the_end_is_kept() -> None:
    stream = Compacted()
    first = read_records(stream, 0, 0, 35, 100, 1 << 20)
    assert (first.values.to_pylist(), first.end) == ([b"0", b"10", b"20", b"30"], 35)
    assert first.system["_offset"].to_pylist() == [0, 10, 20, 30]
    rest = read_records(stream, 0, 35, 100, 1000, 1 << 20)
    assert (rest.values.to_pylist(), rest.end) == ([b"40", b"50", b"60", b"70", b"80", b"90"], 100)
