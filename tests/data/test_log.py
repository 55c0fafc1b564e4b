"""The embedded log in its folder: torn tails, damage, segments, several processes, and writers that are killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import DataError
from bedplate.data.streams import log as log_module
from bedplate.data.streams.blocks import read_blocks
from bedplate.data.streams.log import Log

CLOCK = SystemClock()


def values(log: Log, partition: int = 0) -> list[bytes]:
    return [record.value for record in log.read(partition, 0, 1 << 30)]


def segments(folder: Path, partition: int = 0) -> list[Path]:
    return sorted((folder / f"{partition:05d}").glob("*.seg"))


def test_a_torn_tail_is_ignored_by_readers_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    writer = Log(tmp_path / "t", CLOCK)
    writer.append([b"a", b"b"], producer="p", sequence=0)
    (segment,) = segments(tmp_path / "t")
    whole = segment.read_bytes()
    writer.append([b"c" * 100], producer="p", sequence=2)
    torn = segment.read_bytes()
    for length in range(len(whole) + 1, len(torn)):
        segment.write_bytes(torn[:length])
        reader = Log(tmp_path / "t", CLOCK)
        assert values(reader) == [b"a", b"b"], length
        assert reader.next_sequence("p") == 2
    assert Log(tmp_path / "t", CLOCK).append([b"C"], producer="p", sequence=2) == 1
    assert values(reader) == [b"a", b"b", b"C"]
    assert segment.read_bytes().startswith(whole)


def test_a_last_batch_with_a_wrong_checksum_never_happened(tmp_path: Path) -> None:
    log = Log(tmp_path / "t", CLOCK)
    log.append([b"a"], producer="p", sequence=0)
    log.append([b"bbbb"], producer="p", sequence=1)
    (segment,) = segments(tmp_path / "t")
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    again = Log(tmp_path / "t", CLOCK)
    assert values(again) == [b"a"]
    again.append([b"B"], producer="p", sequence=1)
    assert values(again) == [b"a", b"B"]


def test_damage_with_whole_batches_behind_it_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    log = Log(tmp_path / "t", CLOCK)
    log.append([b"first"], producer="p", sequence=0)
    log.append([b"second"], producer="p", sequence=1)
    (segment,) = segments(tmp_path / "t")
    segment.write_bytes(segment.read_bytes().replace(b"first", b"fIrst"))
    with pytest.raises(DataError, match=r"damaged inside a segment.*00000\.seg at byte"):
        Log(tmp_path / "t", CLOCK).end_offsets()


def test_segments_roll_and_every_handle_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 2_000)
    writer, reader = Log(tmp_path / "t", CLOCK), Log(tmp_path / "t", CLOCK)
    sent = [b"%06d" % number * 10 for number in range(300)]
    for start in range(0, 300, 7):
        writer.append(sent[start : start + 7], producer="p" if start % 2 else "q", sequence=writer.next_sequence("p" if start % 2 else "q"))
        assert reader.end_offsets() == writer.end_offsets()
    assert len(segments(tmp_path / "t")) > 5
    for log in (reader, writer, Log(tmp_path / "t", CLOCK)):
        assert values(log) == sent
        assert [record.value for record in log.read(0, 123, 50)] == sent[123:173]
        assert log.next_sequence("p") + log.next_sequence("q") == 300, "a producer's numbers survive the roll"


def test_a_missing_piece_in_the_middle_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 200)
    log = Log(tmp_path / "t", CLOCK)
    for number in range(20):
        log.append([b"x" * 100], producer="p", sequence=number)
    first = segments(tmp_path / "t")[0]
    first.write_bytes(first.read_bytes()[:-10])
    with pytest.raises(DataError, match="ends before the next one begins"):
        Log(tmp_path / "t", CLOCK).read(0, 0, 20)


def test_one_call_may_hold_more_than_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BATCH_BYTES", 50)
    log = Log(tmp_path / "t", CLOCK)
    sent = [b"z" * size for size in (10, 45, 3, 60, 1, 1)]
    assert log.append(sent, producer="p", sequence=0) == 6
    assert values(log) == sent
    assert len(read_blocks(log, 0, 0, 100, 1 << 30)) > 1


def test_a_record_that_is_too_large_and_a_producer_without_a_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "RECORD_BYTES", 10)
    log = Log(tmp_path / "t", CLOCK)
    with pytest.raises(DataError, match="larger than the log takes"):
        log.append([b"x" * 11], producer="p", sequence=0)
    for name in ("", "n" * 256):
        with pytest.raises(DataError, match="1 to 255 bytes"):
            log.append([b"x"], producer=name, sequence=0)
    assert values(log) == []


def test_a_producer_keeps_to_one_partition_unless_it_names_another(tmp_path: Path) -> None:
    log = Log(tmp_path / "t", CLOCK, partitions=4)
    for number in range(10):
        log.append([b"."], producer="p", sequence=number)
    assert sorted(log.end_offsets().values()) == [0, 0, 0, 10]
    log.append([b"there"], producer="p", sequence=10, partition=2)
    assert values(log, 2)[-1] == b"there"
    assert log.next_sequence("p") == 11, "the numbers run on over all partitions"
    with pytest.raises(DataError, match="partitions are 0 to 3"):
        log.append([b"x"], producer="p", sequence=11, partition=4)


def test_a_topic_keeps_its_number_of_partitions(tmp_path: Path) -> None:
    Log(tmp_path / "t", CLOCK, partitions=3)
    assert len(Log(tmp_path / "t", CLOCK, partitions=8).end_offsets()) == 3
    with pytest.raises(DataError, match="1 to 1024 partitions"):
        Log(tmp_path / "other", CLOCK, partitions=0)


def test_a_topic_made_anew_has_another_identity(tmp_path: Path) -> None:
    assert Log(tmp_path / "a", CLOCK).identity != Log(tmp_path / "b", CLOCK).identity


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bedplate.core.clock import SystemClock
    from bedplate.data.streams.log import Log
    folder, producer, total = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    log = Log(folder, SystemClock())
    print("ready", flush=True)
    while (number := log.next_sequence(producer)) < total:
        batch = [f"{producer}:{n}:".encode() + b"." * (n % 97) for n in range(number, min(number + 7, total))]
        log.append(batch, producer=producer, sequence=number)
""")


def start(folder: Path, producer: str, total: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), producer, str(total)], stdout=subprocess.PIPE, text=True)


def numbers(log: Log, producer: str) -> list[int]:
    return [int(value.split(b":")[1]) for value in values(log) if value.startswith(producer.encode() + b":")]


def test_two_processes_write_and_a_third_reads(tmp_path: Path) -> None:
    reader = Log(tmp_path / "t", CLOCK)
    writers = [start(tmp_path / "t", producer, 1_500) for producer in ("one", "two")]
    while any(writer.poll() is None for writer in writers):
        for producer in ("one", "two"):
            seen = numbers(reader, producer)
            assert seen == list(range(len(seen)))
        time.sleep(0.05)
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert numbers(reader, "one") == numbers(reader, "two") == list(range(1_500))


@pytest.mark.crash
def test_writers_killed_at_any_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = 20130101
    moments = random.Random(seed)
    log = Log(tmp_path / "t", CLOCK)
    total, acknowledged = 200_000, 0
    for attempt in range(6):
        writer = start(tmp_path / "t", "p", total)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.15))
        acknowledged = max(acknowledged, log.next_sequence("p"))
        writer.kill()
        writer.communicate(timeout=60)
        (segment,) = segments(tmp_path / "t")
        if attempt % 2:
            with segment.open("ab") as file:  # what a kill in the middle of a write leaves
                file.write(json.dumps({"torn": attempt}).encode() * 3)
        seen = numbers(log, "p")
        assert seen == list(range(len(seen))), f"seed {seed}, attempt {attempt}"
        assert len(seen) >= acknowledged
    assert acknowledged > 0
    final = log.next_sequence("p")
    log.append([f"p:{final}:".encode()], producer="p", sequence=final)
    assert numbers(Log(tmp_path / "t", CLOCK), "p") == list(range(final + 1))
