"""A segment as bytes: what is whole is taken, whatever the rest looks like."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.streams.segment import Segment, batch_frame, head_frame, segment_name

BATCHES = [[b"a", b"bb"], [b""], [b"x" * 300, b"y"]]


def frames() -> list[bytes]:
    made, offset = [head_frame(7, {"old": 3})], 7
    for batch in BATCHES:
        made.append(batch_frame(offset, offset - 7, float(offset), "p", batch))
        offset += len(batch)
    return made


def open_segment(folder: Path, data: bytes) -> Segment:
    path = folder / segment_name(7)
    path.write_bytes(data)
    return Segment(path)


def records(segment: Segment, offset: int = 7) -> list[bytes]:
    return [record.value for block in segment.blocks(0, offset) for record in block.records()]


def test_a_segment_tells_its_records_its_end_and_its_producers(tmp_path: Path) -> None:
    segment = open_segment(tmp_path, b"".join(frames()))
    segment.refresh()
    assert records(segment) == [value for batch in BATCHES for value in batch]
    assert (segment.base, segment.end_offset, segment.producers) == (7, 12, {"old": 3, "p": 5})
    assert [block.arrived_at_s for block in segment.blocks(0, 7)] == [7.0, 9.0, 10.0]
    assert records(segment, 11) == [b"x" * 300, b"y"], "the whole batch that holds the offset"
    assert records(segment, 12) == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 700), tail=st.binary(max_size=40))
def test_any_prefix_with_any_rubbish_behind_it_gives_whole_batches_or_an_error(tmp_path: Path, cut: int, tail: bytes) -> None:
    whole = frames()
    data = b"".join(whole)[:cut] + tail
    segment = open_segment(tmp_path, data)
    try:
        segment.refresh()
    except DataError as error:
        assert "damaged" in str(error)
    taken = 0 if not segment.end_position else next(n for n in range(len(whole) + 1) if len(b"".join(whole[:n])) == segment.end_position)
    assert records(segment) == [value for batch in BATCHES[: max(0, taken - 1)] for value in batch]


def test_a_segment_grows_under_a_reader(tmp_path: Path) -> None:
    parts = frames()
    segment = open_segment(tmp_path, parts[0])
    segment.refresh()
    assert records(segment) == []
    for count in range(1, len(parts)):
        with segment.path.open("ab") as file:
            file.write(parts[count][:5])
        segment.refresh()
        assert len(list(segment.blocks(0, 7))) == count - 1
        with segment.path.open("ab") as file:
            file.write(parts[count][5:])
        segment.refresh()
        assert len(list(segment.blocks(0, 7))) == count
