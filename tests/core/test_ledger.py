"""The ledger: one chain however many write, leases that fence, erasure that keeps the chain, and kill -9 at any instant."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.errors import Busy, ChainBroken, Fenced, LedgerError, NotFound, Outrun
from bedplate.core.event import SCHEMA, Draft
from bedplate.core.heads import audit
from bedplate.core.ledger import Head, Ledger
from bedplate.core.record import fold

SEED = 20130101
FIXTURES = Path(__file__).parents[1] / "fixtures"
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from bedplate.core.clock import SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
path, writer, first, count, batch = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
ledger = Ledger(path, "flights", SystemClock())
print("ready", flush=True)
for number in range(first, first + count):
    drafts = [Draft("step.accepted", writer, {"n": number, "part": part}, key=f"{writer}/{number}/{part}") for part in range(batch)]
    ledger.append([*drafts, Draft("step.accepted", "shared", {"by": writer}, key=f"shared/{number}")])
    print(number, flush=True)
"""


def draft(number: int = 0, key: str | None = None) -> Draft:
    return Draft("step.accepted", "a", {"n": number}, key)


@pytest.fixture
def clock() -> SimClock:
    return SimClock(1_000_000.0)


@pytest.fixture
def ledger(tmp_path: Path, clock: SimClock) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "state" / "ledger.db", "flights", clock)
    yield opened
    opened.close()


# -- appending and reading ------------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_back(ledger: Ledger, clock: SimClock) -> None:
    payload = {"text": "é\u2028", "number": 1.5, "list": (1, None, True), "inner": {"b": {}, "a": []}}
    appended = ledger.append([Draft("step.accepted", "train", payload, key="k")])
    clock.sleep(0.0015)
    appended += ledger.append([draft(2)])
    assert list(ledger.read()) == appended  # also what JSON changes: a tuple reads as a list from the first moment on
    first, second = appended
    assert (first.seq, first.at_s, first.kind, first.schema, first.subject, first.key) == (1, 1e6, "step.accepted", SCHEMA, "train", "k")
    assert first.payload == {**payload, "list": [1, None, True]}
    assert (second.seq, second.at_s, second.key) == (2, 1_000_000.001, None)
    assert list(ledger.read(after=1)) == [second]
    assert list(ledger.read(after=2)) == []
    assert ledger.head() == Head(2, second.digest)
    assert (ledger.digest_at(1), ledger.digest_at(3)) == (first.digest, None)


def test_what_was_decided_on_an_older_state_is_refused_whole(ledger: Ledger) -> None:
    (first,) = ledger.append([Draft("launch.requested", "run-1", {})])
    ledger.append([Draft("launch.finished", "run-1", {})], after=first.seq)
    with pytest.raises(Outrun, match="decide again: this was decided after event 1"):
        ledger.append([Draft("launch.requested", "run-2", {}), Draft("launch.requested", "run-3", {})], after=first.seq)
    assert [event.subject for event in ledger.read()] == ["run-1", "run-1"]


def test_a_key_is_appended_once(ledger: Ledger) -> None:
    assert len(ledger.append([draft(1, "k"), draft(2, "k"), draft(3, "l")])) == 2
    assert ledger.append([draft(4, "k")]) == []
    assert [event.payload["n"] for event in ledger.read()] == [1, 3]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Draft("no.such", "a", {}), LedgerError),
        (Draft("step.accepted", "a", {"n": float("nan")}), ValueError),
        (Draft("step.accepted", "a", {"n": object()}), TypeError),
        (Draft("step.accepted", "a", {"n": "\ud800"}), ValueError),
    ],
)
def test_all_of_a_batch_or_nothing(ledger: Ledger, bad: Draft, error: type[Exception]) -> None:
    with pytest.raises(error):
        ledger.append([draft(1), bad])
    assert ledger.head().seq == 0
    assert len(ledger.append([draft(1)])) == 1
    ledger.verify()


def test_an_empty_ledger_verifies_and_ledgers_differ_from_the_first_link_on(ledger: Ledger, tmp_path: Path, clock: SimClock) -> None:
    other = Ledger(tmp_path / "other.db", "flights", clock)
    assert ledger.verify() == ledger.head()
    assert ledger.head().seq == other.head().seq == 0
    assert ledger.append([draft()])[0].digest != other.append([draft()])[0].digest
    other.close()


def test_it_is_the_same_ledger_when_it_is_opened_again(ledger: Ledger, clock: SimClock) -> None:
    ledger.append([draft(1)])
    again = Ledger(ledger.path, "flights", clock)
    assert (again.id, again.head()) == (ledger.id, ledger.head())
    again.append([draft(2)])
    assert [event.payload["n"] for event in ledger.read()] == [1, 2]
    again.close()


def test_a_ledger_of_another_project_is_refused(ledger: Ledger, clock: SimClock) -> None:
    with pytest.raises(LedgerError, match="another project") as caught:
        Ledger(ledger.path, "ships", clock)
    assert "'flights'" in (caught.value.fix or "")


def test_a_file_that_is_no_ledger(tmp_path: Path, clock: SimClock) -> None:
    (tmp_path / "ledger.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(LedgerError, match="cannot be opened") as caught:
        Ledger(tmp_path / "ledger.db", "flights", clock)
    assert "backup" in (caught.value.fix or "")


def test_a_disk_that_takes_no_more_is_a_ledger_error_and_the_ledger_goes_on_afterwards(ledger: Ledger) -> None:
    ledger.append([draft(1)])
    pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(LedgerError, match="cannot be written"):
        ledger.append([draft(2), Draft("step.accepted", "a", {"text": "x" * 100_000})])
    ledger._database.execute("PRAGMA max_page_count = 1000000")
    assert [event.seq for event in ledger.append([draft(3)])] == [2]
    assert ledger.verify().seq == 2


@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(st.tuples(st.integers(0, 5), st.none() | st.sampled_from("abcd")), max_size=4), max_size=8))
def test_any_batches_make_one_chain_without_gaps(tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, str]]]) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db", "flights", SimClock())
    expected: list[tuple[int, str | None]] = []
    for batch in batches:
        ledger.append([draft(number, key) for number, key in batch])
        for number, key in batch:
            if key is None or key not in [known for _, known in expected]:
                expected.append((number, key))
    assert [(event.payload["n"], event.key) for event in ledger.read()] == expected
    assert [event.seq for event in ledger.read()] == list(range(1, len(expected) + 1))
    assert ledger.verify() == ledger.head()
    ledger.close()


# -- several processes ----------------------------------------------------------------------------------------------------------------


def start_writer(path: Path, writer: str, first: int, count: int, batch: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), writer, str(first), str(count), str(batch)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_writers_in_several_processes_make_one_chain_and_lose_nothing(tmp_path: Path, clock: SimClock) -> None:
    path = tmp_path / "ledger.db"  # that no writer finds: they also race to create it
    writers = [start_writer(path, f"w{index}", 0, 25, 3) for index in range(4)]
    for writer in writers:
        assert writer.communicate(timeout=120)[0].splitlines()[-1] == "24"
        assert writer.returncode == 0
    ledger = Ledger(path, "flights", clock)
    assert ledger.verify().seq == 4 * 25 * 3 + 25
    events = list(ledger.read())
    for index in range(4):
        mine = [(event.payload["n"], event.payload["part"]) for event in events if event.subject == f"w{index}"]
        assert mine == [(number, part) for number in range(25) for part in range(3)]  # whole batches, in their order
    assert sum(event.subject == "shared" for event in events) == 25  # each key once, whoever came first
    ledger.close()


@pytest.mark.crash
def test_a_writer_killed_at_any_instant_loses_nothing_it_was_promised_and_blocks_nobody(tmp_path: Path, clock: SimClock) -> None:
    path, rng = tmp_path / "ledger.db", random.Random(SEED)
    promised = 0
    for kill in range(12):
        writer = start_writer(path, "w", promised, 100_000, 3)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.0, 0.06))
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.communicate()[0].splitlines()]  # with a timeout it would leave out what readline buffered
        promised = max(told, default=promised - 1) + 1
        ledger = Ledger(path, "flights", clock)
        where = f"seed {SEED}, kill {kill}"
        assert ledger.verify() == ledger.head(), where
        parts = Counter(event.payload["n"] for event in ledger.read() if event.subject == "w")
        assert set(parts.values()) <= {3}, f"{where}: a torn batch"
        assert set(range(promised)) <= set(parts), f"{where}: an event that was reported is gone"
        assert len(parts) <= promised + 1, f"{where}: more than the one batch in flight"
        ledger.append([draft(kill, f"alive/{kill}")])
        ledger.close()
    assert promised > 0


# -- leases ---------------------------------------------------------------------------------------------------------------------------


def test_a_lease_is_held_by_one_until_it_expires(ledger: Ledger, clock: SimClock) -> None:
    assert ledger.lease("loop") is None
    lease = ledger.acquire("loop", "one", 15.0)
    assert lease == ledger.lease("loop")
    assert (lease.holder, lease.token, lease.expires_at_s) == ("one", 1, 1_000_015.0)
    clock.sleep(14.9)
    with pytest.raises(Busy) as caught:
        ledger.acquire("loop", "two", 15.0)
    assert caught.value.value == "one"
    assert ledger.acquire("other", "two", 15.0).token == 1
    clock.sleep(0.1)
    assert ledger.acquire("loop", "two", 15.0).token == 2


def test_a_renewed_lease_lives_longer_under_the_same_token(ledger: Ledger, clock: SimClock) -> None:
    lease = ledger.acquire("loop", "one", 15.0)
    clock.sleep(10.0)
    renewed = ledger.renew(lease, 15.0)
    assert (renewed.token, renewed.expires_at_s) == (1, 1_000_025.0)
    clock.sleep(10.0)
    with pytest.raises(Busy):
        ledger.acquire("loop", "two", 15.0)
    assert len(ledger.append([draft()], renewed)) == 1


def test_a_takeover_fences_the_one_before(ledger: Ledger, clock: SimClock) -> None:
    old = ledger.acquire("loop", "one", 15.0)
    ledger.append([draft(1)], old)
    clock.sleep(15.0)
    new = ledger.acquire("loop", "two", 15.0)
    with pytest.raises(Fenced) as caught:
        ledger.append([draft(2), draft(3)], old)
    assert caught.value.value == 2
    with pytest.raises(Fenced):
        ledger.renew(old, 15.0)
    ledger.release(old)  # it has nothing to give back any more
    assert ledger.lease("loop") == new
    ledger.append([draft(4)], new)
    assert [event.payload["n"] for event in ledger.read()] == [1, 4]
    ledger.verify()


def test_a_lease_whose_holder_is_dead_is_taken_at_once(ledger: Ledger) -> None:
    ledger.acquire("loop", "one", 15.0)
    seen = ledger.lease("loop")
    new = ledger.acquire("loop", "two", 15.0, broken=seen)
    assert (new.holder, new.token) == ("two", 2)


def test_a_lease_that_was_renewed_after_its_holder_was_thought_dead_is_kept(ledger: Ledger, clock: SimClock) -> None:
    seen = ledger.acquire("loop", "one", 15.0)
    clock.sleep(1.0)
    ledger.renew(seen, 15.0)
    with pytest.raises(Busy):
        ledger.acquire("loop", "two", 15.0, broken=seen)


@given(start_s=st.floats(0, 4e9), duration_s=st.floats(0.01, 1e5))
@settings(max_examples=25, deadline=None)
def test_a_lease_is_what_the_ledger_says_it_is(tmp_path_factory: pytest.TempPathFactory, start_s: float, duration_s: float) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db", "flights", SimClock(start_s))
    lease = ledger.acquire("loop", "one", duration_s)
    assert ledger.lease("loop") == lease
    assert ledger.renew(lease, duration_s) == ledger.lease("loop") == lease
    ledger.close()


def test_a_released_lease_is_free_and_its_token_is_used_up(ledger: Ledger) -> None:
    ledger.release(ledger.acquire("loop", "one", 15.0))
    assert ledger.acquire("loop", "two", 15.0).token == 2


def test_a_lease_that_nobody_took_fences(ledger: Ledger, tmp_path: Path, clock: SimClock) -> None:
    other = Ledger(tmp_path / "other.db", "flights", clock)
    with pytest.raises(Fenced):
        other.append([draft()], ledger.acquire("loop", "one", 15.0))
    assert other.head().seq == 0
    other.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["acquire", "renew", "append", "release", "wait"]), st.integers(0, 2)), max_size=25))
def test_tokens_only_grow_and_only_the_newest_writes(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    clock = SimClock(5.0)
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db", "flights", clock)
    held, newest, written = [None, None, None], 0, 0
    for what, who in steps:
        lease = held[who]
        if what == "wait":
            clock.sleep(6.0)
        elif what == "acquire":
            try:
                held[who] = ledger.acquire("loop", str(who), 10.0)
            except Busy:
                continue
            assert held[who].token == newest + 1
            newest += 1
        elif lease is not None and what == "release":
            ledger.release(lease)
        elif lease is not None:
            try:
                if what == "renew":
                    held[who] = ledger.renew(lease, 10.0)
                else:
                    ledger.append([draft(lease.token)], lease)
                    written += 1
            except Fenced:
                assert lease.token < newest
            else:
                assert lease.token == newest
    tokens = [event.payload["n"] for event in ledger.read()]
    assert tokens == sorted(tokens)
    assert len(tokens) == written
    ledger.close()


# -- erasing, backup, old ledgers -----------------------------------------------------------------------------------------------------


def test_erasing_removes_the_payload_and_keeps_the_chain(ledger: Ledger) -> None:
    ledger.append([draft(1), Draft("step.accepted", "a", {"person": "Amelia" * 2000}), draft(3)])
    head = ledger.head()
    ledger.erase(2, "she asked")
    events = list(ledger.read())
    assert [(event.payload, event.erased) for event in events[:3]] == [({"n": 1}, False), ({}, True), ({"n": 3}, False)]
    assert events[3].payload == {"seq": 2, "reason": "she asked"}
    assert ledger.digest_at(3) == head.digest
    assert ledger.verify().seq == 4
    assert all(b"Amelia" not in path.read_bytes() for path in ledger.path.parent.iterdir())


def test_erasing_twice_is_recorded_once(ledger: Ledger) -> None:
    ledger.append([draft(1)])
    ledger.erase(1, "first")
    ledger.erase(1, "second")
    assert [event.kind for event in ledger.read()] == ["step.accepted", "payload.erased"]


def test_the_reason_of_an_erasure_can_be_erased_too(ledger: Ledger) -> None:
    ledger.append([draft(1)])
    ledger.erase(1, "Amelia asked")
    ledger.erase(2, "it named a person")
    assert [event.erased for event in ledger.read()] == [True, True, False]
    ledger.verify()


@pytest.mark.parametrize("seq", [0, -1, 2])
def test_erasing_what_is_not_there_records_nothing(ledger: Ledger, seq: int) -> None:
    ledger.append([draft(1)])
    with pytest.raises(NotFound):
        ledger.erase(seq, "a slip")
    assert ledger.head().seq == 1


def test_an_erasure_that_a_reader_holds_up_says_so_and_is_completed_later(ledger: Ledger) -> None:
    ledger.append([Draft("step.accepted", "a", {"person": "Amelia" * 500})])
    reader = sqlite3.connect(ledger.path)
    rows = reader.execute("SELECT payload FROM events UNION ALL SELECT payload FROM events")
    rows.fetchone()
    ledger._database.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(Busy, match="reader"):
        ledger.erase(1, "she asked")
    assert next(iter(ledger.read())).erased
    rows.close()
    reader.close()
    ledger.erase(1, "she asked")
    assert ledger.verify().seq == 2
    assert all(b"Amelia" not in path.read_bytes() for path in ledger.path.parent.iterdir())


def test_a_backup_is_the_same_ledger(ledger: Ledger, tmp_path: Path, clock: SimClock) -> None:
    ledger.append([draft(number) for number in range(5)])
    ledger.acquire("loop", "one", 15.0)
    ledger.backup(tmp_path / "copy.db")
    ledger.append([draft(5)])
    copy = Ledger(tmp_path / "copy.db", "flights", clock)
    assert (copy.id, copy.verify(), copy.lease("loop")) == (ledger.id, Head(5, ledger.digest_at(5) or ""), ledger.lease("loop"))
    copy.close()


def test_a_ledger_of_the_first_schema_still_loads_verifies_and_folds(tmp_path: Path, clock: SimClock) -> None:
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.executescript((FIXTURES / "ledger-v1.sql").read_text())
    database.close()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.pem").write_bytes(b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    ledger = Ledger(tmp_path / "ledger.db", "flights", clock)
    assert ledger.verify() == Head(14, "f17ee54d081c7dd29a1cbc124910363b2f8cd8630fba4b327b1791f01c1a6fd9")
    found = audit(ledger, tmp_path)
    assert (found.events, found.signed_heads, found.signed_through, found.foreign_heads) == (14, 1, 13, 0)
    records = fold(ledger.read())
    run = records.run("train_delay")
    assert (run.id, run.status, run.outputs, run.metrics) == ("train_delay-1", "succeeded", ("train_delay@1",), {"rmse": 16.5})
    assert [(attempt.status, attempt.failure) for attempt in run.attempts] == [("failed", "worker_lost"), ("succeeded", None)]
    assert run.state.checkpoint is not None
    assert run.state.checkpoint["step"] == 20
    assert records.version("train_delay@production").ref == "train_delay@1"
    assert [launch.status for launch in records.launches.values()] == ["done"]
    assert [event.seq for event in ledger.read() if event.erased] == [1]
    assert ledger.append([draft()])[0].seq == 15
    ledger.verify()
    ledger.close()


# -- what verification finds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        ("UPDATE events SET payload = X'7B7D' WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET payload = NULL WHERE seq = 3", "payload of event 3 is gone"),
        ("UPDATE events SET subject = 'b' WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET kind = 'alias.moved' WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET at_ms = at_ms + 1 WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET key = 'k' WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET schema = 2 WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET digest = payload_digest WHERE seq = 3", "event 3 was changed"),
        ("DELETE FROM events WHERE seq = 3", "event 3 is missing"),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE seq = 3; UPDATE events SET seq = seq - 1 WHERE seq > 3", "event 3 was changed or reordered"),
        (
            "UPDATE events SET seq = -seq WHERE seq IN (2, 3); UPDATE events SET seq = 5 + seq WHERE seq < 0",
            "event 2 was changed or reordered",
        ),
        ("UPDATE meta SET value = 'other' WHERE name = 'id'", "event 1 was changed"),
    ],
)
def test_verification_names_the_first_event_that_does_not_fit(ledger: Ledger, clock: SimClock, edit: str, finding: str) -> None:
    ledger.append([draft(number) for number in range(5)])
    with sqlite3.connect(ledger.path) as database:
        database.executescript(edit)
    database.close()
    edited = Ledger(ledger.path, "flights", clock)
    with pytest.raises(ChainBroken, match=finding) as caught:
        edited.verify()
    assert "backup" in (caught.value.fix or "")
    edited.close()


def test_reading_a_payload_that_is_no_json_any_more_is_a_broken_chain(ledger: Ledger) -> None:
    ledger.append([draft(1), draft(2)])
    with sqlite3.connect(ledger.path) as database:
        database.execute("UPDATE events SET payload = X'FF7B' WHERE seq = 2")
    database.close()
    with pytest.raises(ChainBroken, match="event 2"):
        list(ledger.read())


def test_the_digests_can_be_checked_without_this_code(ledger: Ledger) -> None:
    ledger.append([draft(1, "k"), draft(2)])
    script = """
import hashlib, json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
link = hashlib.sha256(dict(database.execute("SELECT * FROM meta"))["id"].encode()).hexdigest()
for seq, at, kind, schema, subject, key, payload, payload_digest, digest in database.execute("SELECT * FROM events ORDER BY seq"):
    assert hashlib.sha256(payload).hexdigest() == payload_digest
    row = json.dumps([seq, at, kind, schema, subject, key, payload_digest], separators=(",", ":"), ensure_ascii=False)
    link = hashlib.sha256((link + row).encode()).hexdigest()
    assert link == digest
print(json.dumps([seq, link]))
"""
    shown = subprocess.check_output([sys.executable, "-I", "-c", script, str(ledger.path)], text=True, timeout=60)
    assert Head(*json.loads(shown)) == ledger.head()


# -- parts of the chain ---------------------------------------------------------------------------------------------------------------


def test_links_are_the_rows_as_stored_and_follow_one_another(tmp_path: Path, clock: SimClock) -> None:
    ledger = Ledger(tmp_path / "ledger.db", "flights", clock)
    ledger.append([Draft("step.accepted", f"s-{number}", {"n": number}, key=f"k{number}") for number in range(5)])
    links = list(ledger.links(1, 5))
    before = ledger.beginning().digest
    for link in links:
        assert link.follows(before)
        before = link.digest
    assert before == ledger.head().digest
    assert [link.seq for link in ledger.links(2, 3)] == [2, 3]
    assert (links[2].subject, links[2].key, links[2].payload) == ("s-2", "k2", b'{"n":2}')
    assert not links[2].follows(links[0].digest)
    assert not replace(links[2], subject="s-3").follows(links[1].digest)
    ledger.close()


def test_an_empty_ledger_begins_where_its_chain_does(tmp_path: Path, clock: SimClock) -> None:
    ledger = Ledger(tmp_path / "ledger.db", "flights", clock)
    assert ledger.head() == ledger.beginning()
    assert ledger.beginning().seq == 0
    assert list(ledger.links(1, 10)) == []
    ledger.close()


def test_events_about_subjects_come_in_order_once_each(tmp_path: Path, clock: SimClock) -> None:
    ledger = Ledger(tmp_path / "ledger.db", "flights", clock)
    ledger.append([Draft("step.accepted", name, {"n": number}) for number, name in enumerate(("a", "b", "a", "c", "b"))])
    assert [event.seq for event in ledger.about(["b", "a", "b"])] == [1, 2, 3, 5]
    assert [event.payload["n"] for event in ledger.about(["c"])] == [3]
    assert ledger.about([]) == ledger.about(["nobody"]) == []
    ledger.close()


def test_events_are_read_in_parts(tmp_path: Path, clock: SimClock) -> None:
    ledger = Ledger(tmp_path / "ledger.db", "flights", clock)
    ledger.append([Draft("step.accepted", "a", {"n": number}) for number in range(7)])
    assert [event.seq for event in ledger.read(2, limit=3)] == [3, 4, 5]
    assert [event.seq for event in ledger.read(6, limit=3)] == [7]
    assert list(ledger.read(7, limit=3)) == []
    ledger.close()
