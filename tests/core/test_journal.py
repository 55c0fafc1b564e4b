"""The journal: whole lines or nothing, numbered without a gap, in each writer's own order, whoever is killed and whenever."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core import journal
from bedplate.core.journal import Entry, JournalReader, JournalWriter

SEED = 20130101


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    opened = JournalWriter(tmp_path, "rank-0")
    yield opened
    opened.close()


def file_of(folder: Path, writer: str = "rank-0") -> Path:
    return folder / "journal" / f"{writer}.jsonl"


def written(folder: Path) -> list[tuple[int, str]]:
    return [(entry.number, entry.kind) for entry in JournalReader(folder).read()]


def test_what_is_written_is_read_once_in_order(tmp_path: Path, writer: JournalWriter) -> None:
    reader = JournalReader(tmp_path)
    assert reader.read() == []
    before = time.time()
    writer.write("metric", values={"loss": 0.5}, step=1)
    writer.write("message", text="é\n\u2028 two lines")
    first, second = reader.read()
    assert (first.writer, first.number, first.kind, first.body) == ("rank-0", 1, "metric", {"values": {"loss": 0.5}, "step": 1})
    assert (second.number, second.body) == (2, {"text": "é\n\u2028 two lines"})
    assert before - 0.001 <= first.at_s <= second.at_s <= time.time() + 0.001
    assert reader.read() == []
    writer.write("ended", status="succeeded")
    assert [entry.number for entry in reader.read()] == [3]


def test_a_reader_of_what_is_not_there_yet(tmp_path: Path) -> None:
    assert JournalReader(tmp_path / "nowhere").read() == []


def test_a_body_that_json_cannot_hold_writes_nothing(tmp_path: Path, writer: JournalWriter) -> None:
    with pytest.raises(TypeError):
        writer.write("metric", values=object())
    writer.write("heartbeat")
    assert written(tmp_path) == [(1, "heartbeat")]


def test_numbers_go_on_after_a_restart(tmp_path: Path, writer: JournalWriter) -> None:
    writer.write("started")
    again = JournalWriter(tmp_path, "rank-0")
    again.write("heartbeat")
    again.sync()
    again.close()
    assert written(tmp_path) == [(1, "started"), (2, "heartbeat")]


def test_a_torn_last_line_waits_and_is_then_whole_or_never_was(tmp_path: Path, writer: JournalWriter) -> None:
    writer.write("started")
    path = file_of(tmp_path)
    whole = path.read_bytes()
    reader = JournalReader(tmp_path)
    path.write_bytes(whole + whole[:-10])
    assert [entry.number for entry in reader.read()] == [1]
    path.write_bytes(whole + whole)
    assert [entry.number for entry in reader.read()] == [1]  # the same line again, whole now


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 200), kinds=st.lists(st.sampled_from(["heartbeat", "metric"]), min_size=1, max_size=4))
def test_wherever_a_kill_cuts_whole_entries_stay_and_the_next_writer_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int, kinds: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("attempt")
    writer = JournalWriter(folder, "rank-0")
    for kind in kinds:
        writer.write(kind, text="x" * 20)
    writer.close()
    data = file_of(folder).read_bytes()
    kept = data[: max(0, len(data) - cut)]
    file_of(folder).write_bytes(kept)
    reader = JournalReader(folder)
    before = reader.read()
    assert [entry.number for entry in before] == list(range(1, kept.count(b"\n") + 1))
    again = JournalWriter(folder, "rank-0")
    again.write("message", text="after")
    again.close()
    after = reader.read()
    assert after[-1].body == {"text": "after"}
    numbers = [entry.number for entry in [*before, *after]]
    assert numbers == list(range(1, len(numbers) + 1))  # also when only the line's end was missing
    assert JournalReader(folder).read() == [*before, *after]


@pytest.mark.parametrize("line", [b"", b"\xff\xfe", b"{", b"7", b"[]", b"{}", b'{"n": 1}', b'{"n":1,"at":1,"kind":"a"}', b"null"])
def test_a_damaged_line_costs_that_line_only(tmp_path: Path, writer: JournalWriter, line: bytes) -> None:
    writer.write("started")
    with file_of(tmp_path).open("ab") as file:
        file.write(line + b"\n")
    writer.write("ended")
    assert written(tmp_path) == [(1, "started"), (2, "ended")]


def test_a_full_disk_is_an_error_and_what_follows_is_not_lost_with_the_torn_line(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from bedplate.core.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JournalWriter(Path(sys.argv[1]), "rank-0")
writer.write("started")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
try:
    writer.write("message", text="x" * 1000)
except OSError as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write("message", text=error.strerror)
writer.write("ended")
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert len(file_of(tmp_path).read_bytes().split(b"\n")[1]) > 100  # a part of the long line is there
    entries = JournalReader(tmp_path).read()
    assert [(entry.kind, entry.body) for entry in entries] == [("started", {}), ("message", {"text": os.strerror(27)}), ("ended", {})]
    assert len({entry.number for entry in entries}) == 3


@pytest.mark.crash
def test_a_writer_killed_at_any_instant_loses_nothing_it_wrote(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bedplate.core.journal import JournalWriter\n"
        "writer = JournalWriter(Path(sys.argv[1]), 'rank-0'); number = 0\n"
        "while True:\n number += 1; writer.write('metric', text='x' * 3000); print(number, flush=True)"
    )
    rng, reader, entries = random.Random(SEED), JournalReader(tmp_path), []
    for kill in range(4):
        with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            promised = int(process.stdout.readline())
            time.sleep(rng.uniform(0.0, 0.03))
            process.send_signal(signal.SIGKILL)
            promised = max([promised, *(int(line) for line in process.stdout.read().splitlines())])
        new = reader.read()
        assert promised <= len(new) <= promised + 1, f"seed {SEED}, kill {kill}"
        entries += new
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))


def test_threads_of_one_process_do_not_mix_their_lines(tmp_path: Path, writer: JournalWriter) -> None:
    threads = [Thread(target=lambda: [writer.write("metric", text="x" * 500) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.number for entry in JournalReader(tmp_path).read()] == list(range(1, 401))


def put(folder: Path, writer: str, times: list[float]) -> None:
    file_of(folder, writer).parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"n": number, "at": at_s, "kind": "metric", "body": {}}) for number, at_s in enumerate(times, 1)]
    file_of(folder, writer).write_text("".join(line + "\n" for line in lines))


def test_entries_of_several_writers_come_in_the_order_of_their_time(tmp_path: Path) -> None:
    put(tmp_path, "rank-0", [1.0, 4.0])
    put(tmp_path, "rank-1", [2.0, 3.0])
    put(tmp_path, "shim", [0.5, 4.0])
    order = [(entry.writer, entry.number) for entry in JournalReader(tmp_path).read()]
    assert order == [("shim", 1), ("rank-0", 1), ("rank-1", 1), ("rank-1", 2), ("rank-0", 2), ("shim", 2)]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["rank-0", "rank-1", "shim"]), st.lists(st.floats(0, 10), max_size=6)))
def test_a_clock_that_is_set_back_does_not_reorder_a_writer(
    tmp_path_factory: pytest.TempPathFactory, times: dict[str, list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("attempt")
    for writer, at_s in times.items():
        put(folder, writer, at_s)
    entries = JournalReader(folder).read()
    for writer, at_s in times.items():
        mine = [entry for entry in entries if entry.writer == writer]
        assert [entry.number for entry in mine] == list(range(1, len(at_s) + 1))
        assert [entry.at_s for entry in mine] == at_s  # what the writer's clock said is shown as it was


def test_the_kinds_are_written_down_where_they_are_defined() -> None:
    for kind in ("started", "heartbeat", "progress", "metric", "checkpoint", "output", "failure", "ended"):
        assert f"`{kind}`" in (journal.__doc__ or "")


def test_an_entry_says_who_and_when() -> None:
    assert Entry("shim", 1, 2.0, "started", {}) == Entry("shim", 1, 2.0, "started", {})
    assert Entry("shim", 1, 2.0, "started", {}) != Entry("rank-0", 1, 2.0, "started", {})
