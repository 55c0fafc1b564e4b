"""The projection: at any time, and whatever happened to it, it says what a fold of all events says."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bedplate.core import projection
from bedplate.core.clock import SystemClock
from bedplate.core.errors import Busy, LedgerError
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bedplate.core.projection import StoredRecords, discard, follow, open_records, place_of
from bedplate.core.record import fold
from bedplate.core.versions import Version
from core.histories import as_plain, asked, drafts


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db", "x", SystemClock())) as opened:
        yield opened


def fill(ledger: Ledger, count: int, start: int = 0) -> None:
    told = []
    for number in range(start, start + count):
        run = f"fit-{number}"
        version = Version("price", number + 1, "model", f"d{number}", "x", run, 1.0)
        told += [
            Draft("run.created", run, {"step": "fit", "kind": "train", "launch": "up-1", "fingerprint": "f"}),
            Draft("attempt.started", run, {"token": 1, "engine": "local", "folder": "x", "handle": {}}),
            Draft("version.created", version.ref, {"version": version.to_json()}),
            Draft("run.finished", run, {"status": "succeeded", "outputs": [version.ref], "metrics": {"rmse": number / 7}}),
        ]
    ledger.append(told)


def check(ledger: Ledger) -> StoredRecords:
    """Open the records, compare them with a fold of everything, and give them back open."""
    records = open_records(ledger)
    assert isinstance(records, StoredRecords)
    truth = fold(ledger.read())
    assert asked(records) == asked(truth)
    assert as_plain(records) == as_plain(truth)
    return records


act = st.one_of(
    st.lists(drafts(), min_size=1, max_size=12),
    st.sampled_from(["open", "follow", "follow", "reopen", "erase", "discard"]),
)


@settings(
    max_examples=25,
    deadline=None,
    phases=set(Phase) - {Phase.shrink},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(act, min_size=2, max_size=14), st.integers(1, 6), st.integers(1, 9), st.randoms(use_true_random=False))
def test_projection_and_tail_are_the_fold_of_all_events(history: list[object], opening: int, chunk: int, draw: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "OPENING_EVENTS", opening)
        patch.setattr(projection, "CHUNK_EVENTS", chunk)
        patch.setattr(projection, "FOLLOWING_EVENTS", opening + 3)
        with closing(Ledger(Path(folder) / "ledger.db", "x", SystemClock())) as ledger:
            ledger._database.execute("PRAGMA synchronous=OFF")  # no power is lost here, and the history is written quicker
            held = open_records(ledger)
            for did in history:
                if isinstance(did, list):
                    ledger.append(did)
                elif did == "follow":
                    follow(held, ledger)
                elif did == "open":
                    check(ledger).release()
                elif did == "reopen":
                    held.release()
                    held = check(ledger)
                elif did == "discard":
                    discard(ledger.path)
                elif ledger.head().seq:
                    held.release()  # else the erased bytes stay in the log that it reads
                    ledger.erase(draw.randint(1, ledger.head().seq), "she asked")
                    held = open_records(ledger)
            follow(held, ledger)
            truth = fold(ledger.read())
            assert asked(held) == asked(truth)
            assert as_plain(held) == as_plain(truth)
            held.release()
            check(ledger).release()


def test_a_run_that_somebody_holds_is_the_one_that_the_next_event_changes(ledger: Ledger) -> None:
    fill(ledger, 300)
    records = open_records(ledger)
    run = records.run("fit-7")
    ledger.append([Draft("run.created", "fit-900", {"step": "fit", "kind": "train", "launch": "up-1", "fingerprint": "f"})])
    follow(records, ledger)
    late = records.run("fit-900")
    fill(ledger, 1500, start=1000)  # far enough that the rows below are replaced by later ones
    ledger.append([Draft("run.finished", "fit-900", {"status": "failed", "outputs": []})])
    follow(records, ledger)
    assert isinstance(records, StoredRecords)
    assert records.base > 1200
    assert (late.status, records.run("fit-900") is late, records.run("fit-7") is run) == ("failed", True, True)
    assert as_plain(records) == as_plain(fold(ledger.read()))
    records.release()


def test_one_record_is_read_without_the_others(ledger: Ledger) -> None:
    fill(ledger, 400)
    open_records(ledger).release()
    records = open_records(ledger)
    assert records.version("price@77").run == "fit-76"
    assert records.run("fit-76").metrics == {"rmse": 76 / 7}
    assert records.run("fit").id == "fit-399"
    assert len(records.runs._seen) == 2  # type: ignore[attr-defined]  # what was read into memory
    records.release()


def test_a_projection_of_another_history_is_made_anew(ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(ledger, 150)
    open_records(ledger).release()
    ledger.backup(tmp_path / "kept.db")
    fill(ledger, 200, start=500)
    open_records(ledger).release()
    ledger.close()
    (tmp_path / "kept.db").rename(tmp_path / "ledger.db")  # back to the backup: the chain is shorter than the projection
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with caplog.at_level(logging.DEBUG, "bedplate.projection"), closing(Ledger(tmp_path / "ledger.db", "x", SystemClock())) as restored:
        check(restored).release()
        assert "made anew" in caplog.text
        fill(restored, 200, start=900)  # and where it is as long again, its digests differ
        caplog.clear()
        check(restored).release()
        assert "made anew" not in caplog.text
    ledger.__init__(tmp_path / "ledger.db", "x", SystemClock())  # type: ignore[misc]  # so that the fixture can close it


def test_another_fold_makes_other_records(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fill(ledger, 150)
    open_records(ledger).release()
    monkeypatch.setattr(projection, "_fold_version", lambda: "of tomorrow")
    with caplog.at_level(logging.DEBUG, "bedplate.projection"):
        check(ledger).release()
    assert "made anew" in caplog.text


@pytest.mark.parametrize("damage", ["nonsense", "cut", "empty"])
def test_a_file_that_is_no_database_is_made_anew(ledger: Ledger, damage: str) -> None:
    fill(ledger, 150)
    open_records(ledger).release()
    place = place_of(ledger.path)
    whole = place.read_bytes()
    place.write_bytes({"nonsense": b"x" * 10_000, "cut": whole[:5000], "empty": b""}[damage])
    for name in ("projection.db-wal", "projection.db-shm"):
        place.with_name(name).unlink(missing_ok=True)
    try:
        check(ledger).release()
    except LedgerError as error:  # found only when the row was read: then the next time
        assert "run the command again" in error.one_line()
        check(ledger).release()


def test_a_changed_row_is_never_shown(ledger: Ledger) -> None:
    fill(ledger, 200)
    open_records(ledger).release()
    with closing(sqlite3.connect(place_of(ledger.path))) as database:
        database.execute("UPDATE runs SET body = replace(body, 'succeeded', 'failed') WHERE id = 'fit-3'")
        database.commit()
    records = open_records(ledger)
    assert records.run("fit-4").status == "succeeded"
    with pytest.raises(LedgerError, match="run the command again"):
        records.run("fit-3")
    records.release()
    check(ledger).release()


def test_where_it_cannot_be_written_all_events_are_folded(ledger: Ledger) -> None:
    fill(ledger, 150)
    place_of(ledger.path).mkdir()
    records = open_records(ledger)
    assert as_plain(records) == as_plain(fold(ledger.read()))
    fill(ledger, 5, start=200)
    ledger.append([Draft("payload.erased", "1", {"seq": 1, "reason": "x"})])
    follow(records, ledger)
    assert as_plain(records) == as_plain(fold(ledger.read()))
    records.release()


def test_erased_bytes_are_gone_from_it_too(ledger: Ledger) -> None:
    secret = "Amelia-Earhart-7391"
    ledger.append(
        [Draft("run.created", "fit-0", {"step": "fit", "kind": "train", "launch": "l", "fingerprint": "f", "params": {"who": secret}})]
    )
    fill(ledger, 200, start=1)
    open_records(ledger).release()
    folder = ledger.path.parent
    assert any(secret.encode() in path.read_bytes() for path in folder.glob("projection.db*"))
    reader = open_records(ledger)
    with pytest.raises(Busy):
        ledger.erase(1, "she asked")
    reader.release()
    ledger.erase(1, "she asked")
    assert not any(secret.encode() in path.read_bytes() for path in folder.glob("*.db*"))
    records = check(ledger)
    assert "fit-0" not in records.runs
    records.release()


WRITER = """
import sys, random
from pathlib import Path
from bedplate.core import projection
from bedplate.core.clock import SystemClock
from bedplate.core.ledger import Ledger
projection.CHUNK_EVENTS, projection.OPENING_EVENTS = 7, 3
ledger = Ledger(Path(sys.argv[1]), "x", SystemClock())
print("ready", flush=True)
while True:
    records = projection.open_records(ledger)
    records.release()
    if random.random() < 0.3:
        projection.discard(ledger.path)
"""


def writer(ledger: Ledger) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(ledger.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_instant_while_it_is_written(ledger: Ledger, seed: int) -> None:
    fill(ledger, 60)
    draw = random.Random(seed)
    for _ in range(2):
        process = writer(ledger)
        time.sleep(draw.uniform(0, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        check(ledger).release()


def test_two_processes_write_it_while_a_third_reads_on(ledger: Ledger) -> None:
    fill(ledger, 40)
    processes = [writer(ledger), writer(ledger)]
    held = open_records(ledger)
    try:
        for start in range(100, 700, 100):
            fill(ledger, 20, start=start)
            follow(held, ledger)
            check(ledger).release()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert as_plain(held) == as_plain(fold(ledger.read()))
    held.release()


RESTLESS = [
    Draft("launch.requested", "up-1", {"mode": "up", "targets": ["fit"], "force": ["sums"], "spec": {"project": "x"}}),
    Draft("run.created", "fit-1", {"step": "fit", "kind": "train", "launch": "up-1", "fingerprint": "f", "max_restarts": 1}),
    Draft("attempt.started", "fit-1", {"token": 1, "engine": "local", "folder": "x", "handle": {"pid": 1}}),
    Draft("checkpoint.committed", "fit-1", {"token": 1, "step": 5}),
    Draft("attempt.noticed", "fit-1", {"token": 1, "what": "a straggler"}),
    Draft("attempt.ended", "fit-1", {"token": 1, "status": "failed", "failure": "node_lost", "node": "n1", "signal": "SIGSEGV", "step": 5}),
    Draft("attempt.started", "fit-1", {"token": 2, "engine": "local", "folder": "x", "handle": {"pid": 2}}),
    Draft("attempt.ended", "fit-1", {"token": 2, "status": "failed", "failure": "user_error", "message": "no"}),
]


@pytest.mark.parametrize("count", range(1, len(RESTLESS) + 1))
def test_a_run_comes_back_as_it_was_at_every_stage_of_its_life(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(projection, "OPENING_EVENTS", 1)
    ledger.append(RESTLESS[:count])
    open_records(ledger).release()
    records = check(ledger)
    assert records.base == count, "nothing was left to fold in memory"
    if count == len(RESTLESS):
        run = records.run("fit-1")
        assert run.state.ending is not None
        assert (run.state.ending.failure, run.state.crash, run.state.excluded) == ("user_error", ("SIGSEGV", 5), ("n1",))
        assert [attempt.failure for attempt in run.attempts] == ["node_lost", "user_error"]
        assert records.launches["up-1"].force == ("sums",)
    records.release()


def test_what_clients_log_is_never_driven_by_the_loop(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "OPENING_EVENTS", 1)
    logged = {"experiment": "1", "experiment_name": "e", "user": "u", "start_ms": 5, "name": "n"}
    ledger.append([Draft("run.logged", "abc", logged), RESTLESS[1]])
    records = check(ledger)
    assert [run.id for run in records.live()] == ["fit-1"]
    assert records.newest("logged:e") is not None
    records.release()


def test_every_field_of_the_records_is_stored() -> None:
    names = set(vars(fold([]))) - {"seq"}
    assert set(projection.codecs()) == names


def test_what_is_thrown_away_under_a_reader_is_still_read(ledger: Ledger) -> None:
    fill(ledger, 200)
    open_records(ledger).release()
    held = open_records(ledger)
    assert not discard(ledger.path), "a reader keeps the bytes"
    assert held.run("fit-9").metrics == {"rmse": 9 / 7}
    assert as_plain(held) == as_plain(fold(ledger.read()))
    held.release()
    assert discard(ledger.path)
    assert discard(ledger.path.with_name("other") / "ledger.db"), "where there is none, none is left"


def test_what_came_after_a_reader_began_does_not_change_what_it_reads(ledger: Ledger) -> None:
    fill(ledger, 200)
    open_records(ledger).release()
    held = open_records(ledger)
    ledger.append([Draft("run.finished", "fit-1000", {"status": "failed"})])
    fill(ledger, 300, start=2000)
    open_records(ledger).release()  # another process advances the rows
    assert "fit-2000" not in held.runs
    assert held.versions["price"][-1].number == 200
    assert len(held.runs) == 200
    follow(held, ledger)
    assert len(held.runs) == 500
    held.release()


def test_numbers_are_counted_in_the_same_order_by_readers_and_by_the_writer(ledger: Ledger) -> None:
    fill(ledger, 150)
    held = open_records(ledger)
    fill(ledger, 3, start=500)
    follow(held, ledger)
    fill(ledger, 1200, start=1000)
    follow(held, ledger)
    assert [run.id for run in held.of_step("fit")] == [run.id for run in fold(ledger.read()).of_step("fit")]
    held.release()
