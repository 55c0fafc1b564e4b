"""What every stream must do, run against each implementation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.errors import DataError
from bedplate.core.protocols import Stream
from bedplate.data.streams.blocks import read_blocks
from bedplate.data.streams.log import Log

Open = Callable[[], Stream]

IMPLEMENTATIONS: dict[str, Callable[[Path, SimClock], Stream]] = {
    "log": lambda folder, clock: Log(folder / "topic", clock),
    "log of 3 partitions": lambda folder, clock: Log(folder / "topic", clock, partitions=3),
}


@pytest.fixture
def clock() -> SimClock:
    return SimClock(1_000.5)


@pytest.fixture(params=list(IMPLEMENTATIONS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: SimClock) -> Open:
    """Opens the stream under test; a second call opens the same one again."""
    return lambda: IMPLEMENTATIONS[request.param](tmp_path, clock)


def everything(stream: Stream) -> list[bytes]:
    ends = stream.end_offsets()
    return [record.value for partition in sorted(ends) for record in stream.read(partition, 0, ends[partition])]


def test_a_new_stream_is_empty(reopen: Open) -> None:
    stream = reopen()
    assert set(stream.end_offsets().values()) == {0}
    assert everything(stream) == []
    assert stream.next_sequence("anybody") == 0


def test_records_come_back_in_order_with_their_places_and_times(reopen: Open, clock: SimClock) -> None:
    stream = reopen()
    assert stream.append([b"a", b"", b"\x00\xff\n"], producer="p", sequence=0) == 3
    clock.sleep(2)
    assert stream.append([b"d"], producer="p", sequence=3) == 1
    (partition,) = [number for number, end in stream.end_offsets().items() if end]
    records = stream.read(partition, 0, 10)
    assert [(record.offset, record.value) for record in records] == [(0, b"a"), (1, b""), (2, b"\x00\xff\n"), (3, b"d")]
    assert [record.arrived_at_s for record in records] == [1_000.5, 1_000.5, 1_000.5, 1_002.5]
    assert {record.partition for record in records} == {partition}


def test_the_identity_and_the_records_survive_opening_again(reopen: Open) -> None:
    first = reopen()
    first.append([b"a", b"b"], producer="p", sequence=0)
    again = reopen()
    assert again.identity == first.identity
    assert everything(again) == [b"a", b"b"]
    assert again.next_sequence("p") == 2


def test_what_one_handle_appends_another_sees(reopen: Open) -> None:
    writer, reader = reopen(), reopen()
    for number in range(5):
        writer.append([b"%d" % number], producer="p", sequence=number)
        assert len(everything(reader)) == number + 1


def test_records_that_are_sent_again_are_not_stored_again(reopen: Open) -> None:
    stream = reopen()
    assert stream.append([b"0", b"1"], producer="p", sequence=0) == 2
    assert stream.append([b"0", b"1"], producer="p", sequence=0) == 0
    assert stream.append([b"1", b"2", b"3"], producer="p", sequence=1) == 2
    assert everything(stream) == [b"0", b"1", b"2", b"3"]
    assert reopen().append([b"3", b"4"], producer="p", sequence=3) == 1


def test_producers_number_their_records_independently(reopen: Open) -> None:
    stream = reopen()
    stream.append([b"p0"], producer="p", sequence=0)
    stream.append([b"q0", b"q1"], producer="q", sequence=0)
    assert (stream.next_sequence("p"), stream.next_sequence("q")) == (1, 2)
    assert sorted(everything(stream)) == [b"p0", b"q0", b"q1"]


def test_a_gap_in_the_numbers_is_an_error_that_names_the_next(reopen: Open) -> None:
    stream = reopen()
    stream.append([b"0"], producer="p", sequence=0)
    with pytest.raises(DataError, match=r"gap.*go on with 1"):
        stream.append([b"5"], producer="p", sequence=5)
    assert everything(stream) == [b"0"]


def test_nothing_appended_is_nothing_stored(reopen: Open) -> None:
    stream = reopen()
    assert stream.append([], producer="p", sequence=0) == 0
    assert set(stream.end_offsets().values()) == {0}


def test_reading_past_the_end_gives_nothing_and_an_unknown_partition_is_an_error(reopen: Open) -> None:
    stream = reopen()
    stream.append([b"0"], producer="p", sequence=0)
    assert stream.read(0, 99, 10) == []
    with pytest.raises(DataError, match="no such partition"):
        stream.read(7, 0, 1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=8), min_size=1, max_size=8),
    offset=st.integers(0, 70),
    limit=st.integers(0, 70),
    limit_bytes=st.integers(1, 200),
)
def test_any_range_is_the_same_by_records_and_by_blocks(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]], offset: int, limit: int, limit_bytes: int
) -> None:
    for name, make in IMPLEMENTATIONS.items():
        stream = make(tmp_path_factory.mktemp("stream"), SimClock())
        sent = 0
        for batch in batches:
            stream.append(batch, producer="p", sequence=sent)
            sent += len(batch)
        values = [value for batch in batches for value in batch]
        partition = max(stream.end_offsets(), key=lambda number: stream.end_offsets()[number])
        assert [record.value for record in stream.read(partition, offset, limit)] == values[offset : offset + limit], name
        blocks = read_blocks(stream, partition, offset, limit, limit_bytes)
        got = [record for block in blocks for record in block.records()]
        assert [record.value for record in got] == values[offset : offset + len(got)]
        assert [record.offset for record in got] == list(range(offset, offset + len(got)))
        assert len(got) <= limit
        assert len(got) <= 1 or sum(len(record.value) for record in got) <= limit_bytes
        assert len(got) >= min(1, limit, max(0, len(values) - offset))
