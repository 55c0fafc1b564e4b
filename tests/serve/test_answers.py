"""The answer log: nothing twice, nothing out of order, and every loss counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.clock import SystemClock
from bedplate.data.streams.log import Log
from bedplate.serve import answers
from bedplate.serve.answers import AnswerLog, lost_answers, settle
from serve.replica import MemoryStream

WAIT_S = 30.0


class Kit:
    """A stream, a drain that counts, and the errors that were reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream = MemoryStream()
        self.errors: list[Exception] = []
        self.reported = threading.Event()
        self.drained = 0
        self.drains = 0
        self.drain_failures: list[Exception] = []
        self.moved = threading.Condition()

    def on_error(self, error: Exception) -> None:
        self.errors.append(error)
        self.reported.set()

    def drain(self) -> int:
        with self.moved:
            self.drains += 1
            if self.drain_failures:
                raise self.drain_failures.pop(0)
            moved = len(self.stream.values) - self.drained
            self.drained += moved
            self.moved.notify_all()
            return moved

    def open(self, **settings: Any) -> AnswerLog:
        tally = self.folder / "tally"
        return AnswerLog(self.stream, "endpoint-1/1", drain=self.drain, on_error=self.on_error, tally=tally, **settings)

    def wait_drained(self, count: int) -> None:
        with self.moved:
            assert self.moved.wait_for(lambda: self.drained >= count, WAIT_S)

    def stored(self) -> list[int]:
        return [json.loads(value)["n"] for value in self.stream.values]


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kit]:
    monkeypatch.setattr(answers, "RETRY_S", 0.02)
    monkeypatch.setattr(answers, "DRAIN_S", 0.05)
    made = Kit(tmp_path)
    yield made
    made.stream.gate.set()


def test_records_are_stored_in_order_and_drained_without_closing(kit: Kit) -> None:
    log = kit.open()
    for number in range(2500):
        log.remember({"n": number})
    kit.wait_drained(2500)
    assert kit.stored() == list(range(2500))
    assert log.close()
    assert log.health() == {"written": 2500, "queued": 0, "lost": 0, "drained": 2500}
    assert kit.errors == []


def test_close_stores_and_drains_what_was_just_said(kit: Kit) -> None:
    log = kit.open()
    for number in range(10):
        log.remember({"n": number})
    assert log.close()
    assert kit.stored() == list(range(10))
    assert kit.drained == 10


def test_many_answers_share_an_append(kit: Kit) -> None:
    log = kit.open()
    kit.stream.gate.clear()
    for number in range(300):
        log.remember({"n": number})
    kit.stream.gate.set()
    assert log.close()
    assert sum(kit.stream.batches) == 300
    assert len(kit.stream.batches) <= 20


def test_records_from_many_threads_are_each_stored_once(kit: Kit) -> None:
    log = kit.open()
    threads = [
        threading.Thread(target=lambda base=base: [log.remember({"n": base + i}) for i in range(200)]) for base in range(0, 1000, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close()
    assert sorted(kit.stored()) == list(range(1000))


def test_a_full_queue_loses_and_counts(kit: Kit) -> None:
    kit.stream.gate.clear()  # the stream hangs
    log = kit.open(capacity=50)
    for number in range(80):
        log.remember({"n": number})
    assert log.health()["lost"] == 30
    kit.stream.gate.set()
    assert log.close()
    assert kit.stored() == list(range(50))
    assert log.health() == {"written": 50, "queued": 0, "lost": 30, "drained": 50}


@pytest.mark.parametrize("after", [False, True], ids=["before it was stored", "after it was stored"])
def test_a_failed_append_is_reported_and_tried_again_without_doubling(kit: Kit, after: bool) -> None:
    kit.stream.failures = [OSError("no space left"), OSError("no space left")]
    kit.stream.after = after
    log = kit.open()
    for number in range(20):
        log.remember({"n": number})
    kit.wait_drained(20)
    assert log.close()
    assert kit.stored() == list(range(20))
    assert [str(error) for error in kit.errors] == ["no space left"] * 2


def test_a_stream_that_stays_broken_does_not_hold_the_process(kit: Kit) -> None:
    kit.stream.failures = [OSError("gone")] * 1000
    log = kit.open()
    log.remember({"n": 1})
    assert kit.reported.wait(WAIT_S)
    assert not log.close(WAIT_S)
    assert log.health()["lost"] == 1
    assert {str(error) for error in kit.errors} == {"gone"}


def test_a_hanging_stream_does_not_hold_the_process(kit: Kit) -> None:
    kit.stream.gate.clear()
    log = kit.open()
    log.remember({"n": 1})
    assert not log.close(timeout_s=0.2)
    assert log.health()["queued"] == 1


def test_a_failed_drain_is_reported_and_done_again(kit: Kit) -> None:
    kit.drain_failures = [OSError("lake is away"), RuntimeError("odd")]
    log = kit.open()
    log.remember({"n": 1})
    kit.wait_drained(1)
    assert log.close()
    assert [str(error) for error in kit.errors] == ["lake is away", "odd"]


def test_a_drain_happens_only_when_there_is_something_new(kit: Kit) -> None:
    log = kit.open()
    log.remember({"n": 1})
    kit.wait_drained(1)
    before = kit.drains
    assert not threading.Event().wait(0.3)  # six times as long as between two drains
    assert kit.drains - before <= 1
    assert log.close()


def test_what_a_killed_predecessor_left_is_drained_at_the_start(kit: Kit) -> None:
    kit.stream.append([b'{"n":0}'], producer="endpoint-1/1", sequence=0)
    log = kit.open()
    kit.wait_drained(1)
    log.remember({"n": 1})
    assert log.close()
    assert kit.stored() == [0, 1]


def test_what_comes_after_closing_is_lost_and_counted(kit: Kit) -> None:
    log = kit.open()
    assert log.close()
    log.remember({"n": 1})
    assert log.health()["lost"] == 1
    assert log.close()
    assert log.health()["lost"] == 1


def test_a_loss_is_counted_once_however_often_the_log_is_opened(kit: Kit) -> None:
    kit.stream.gate.clear()
    first = kit.open(capacity=2)
    for number in range(3):
        first.remember({"n": number})
    assert lost_answers(kit.folder / "tally") == 1, "the queue was full"
    for _ in range(2):
        again = AnswerLog(MemoryStream(), "endpoint-1/1", drain=int, on_error=print, tally=kit.folder / "tally")
        assert again.health()["lost"] == lost_answers(kit.folder / "tally") == 3, "what waited died with its process"
        assert again.close()
    assert lost_answers(kit.folder / "none") == 0


def test_who_died_and_was_not_replaced_is_settled(kit: Kit) -> None:
    kit.stream.gate.clear()
    log, tally = kit.open(), kit.folder / "tally"
    for number in range(3):
        log.remember({"n": number})
    for _ in range(2):
        assert settle(MemoryStream(), "endpoint-1/1", tally) == lost_answers(tally) == 3
    assert settle(MemoryStream(), "endpoint-1/1", kit.folder / "none") == 0
    assert not (kit.folder / "none").exists()


@pytest.mark.parametrize("record", [{"n": float("nan")}, {"n": {1, 2}}])
def test_what_json_cannot_hold_is_an_error_of_the_caller(kit: Kit, record: dict[str, Any]) -> None:
    log = kit.open()
    with pytest.raises((TypeError, ValueError)):
        log.remember(record)
    assert log.close()
    assert kit.stream.values == []


def _values(log: Log) -> list[int]:
    return [json.loads(record.value)["n"] for part, end in log.end_offsets().items() for record in log.read(part, 0, end)]


def test_the_embedded_log_holds_the_answers_of_a_restarted_process_once(tmp_path: Path) -> None:
    nothing: Callable[[], int] = int
    for numbers in (range(30), range(30, 60)):
        log = AnswerLog(Log(tmp_path, SystemClock()), "e-1/1", drain=nothing, on_error=print, tally=tmp_path / "tally")
        assert log.missed == 0
        for number in numbers:
            log.remember({"n": number})
        assert log.close()
    assert _values(Log(tmp_path, SystemClock())) == list(range(60))


def _numbers(line: str) -> tuple[int, int]:
    taken, written = map(int, line.split())
    return taken, written


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(3))
def test_after_a_kill_the_log_holds_a_beginning_and_goes_on(tmp_path: Path, seed: int) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from bedplate.core.clock import SystemClock
        from bedplate.data.streams.log import Log
        from bedplate.serve.answers import AnswerLog
        folder = Path(sys.argv[1])
        log = AnswerLog(Log(folder, SystemClock()), "e-1/1", drain=lambda: 0, on_error=print, tally=folder / "tally")
        for number in range(100000):
            log.remember({"n": number})
            print(number + 1, log.health()["written"], flush=True)
            time.sleep(0.0005)
    """)
    with subprocess.Popen([sys.executable, "-c", script, os.fspath(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = (0, 0)
        while said[1] <= 150 * (seed + 1):
            said = _numbers(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        said = max([said, *(_numbers(line) for line in process.stdout if line.endswith("\n"))])
    stored = _values(Log(tmp_path, SystemClock()))
    assert stored == list(range(len(stored)))
    assert len(stored) >= said[1]
    tally = tmp_path / "tally"
    log = AnswerLog(Log(tmp_path, SystemClock()), "e-1/1", drain=lambda: 0, on_error=print, tally=tally)
    assert said[0] <= len(stored) + log.missed <= said[0] + 1, "all that was taken is stored, or counted as lost"
    assert log.health()["lost"] == log.missed == lost_answers(tally)
    log.remember({"n": len(stored)})
    assert log.close()
    assert _values(Log(tmp_path, SystemClock())) == list(range(len(stored) + 1))
