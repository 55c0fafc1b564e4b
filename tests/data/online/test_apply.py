"""Applying events: each once, whoever does it and however often; the time to live; and a process that is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import Busy, DataError, NotFound
from bedplate.core.spec import Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.apply import Applied
from bedplate.data.online.build import build_below
from bedplate.data.online.store import OnlineStore
from data import agreement
from data.online.test_rows import event

TESTS = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> OnlineStore:
    """An empty store."""
    engine = SqliteEngine.create(tmp_path / "online.db")
    build_below(engine, "", agreement.FEATURES, {"events": (agreement.DATASET, agreement.table([]))}, lambda *_: None, 0)
    return OnlineStore(engine)


def count(store: OnlineStore) -> object:
    """How many events of the entity there are."""
    return store.features("w", {"origin": "EWR"}, agreement.START + timedelta(hours=40))["w__bags__count__2d"]


def test_what_was_applied_is_passed_over(store: OnlineStore) -> None:
    rows = [event(number, number / 10) for number in range(20)]
    assert [store.apply("events", agreement.table(rows[:end]), 0) for end in (5, 5, 3, 12, 20)] == [5, 0, 0, 7, 8]
    assert count(store) == 20
    applied = store.applied()["events"]
    assert (applied.offsets, applied.rows) == ({0: 20}, 20)
    store.close()


def test_a_row_by_its_key_is_the_latest_known_one_in_whatever_order_they_came(store: OnlineStore) -> None:
    later, earlier = event(0, 5) | {"bags": 1}, event(1, 4) | {"bags": 2, "flight": 0}
    for row in (later, earlier):
        store.apply("events", agreement.table([row]), 0)
    (found,) = store.rows([("events", {"carrier": "AA", "flight": 0})])
    assert found is not None
    assert (found.row["bags"], len(found.events)) == (1, 2)
    store.close()


def test_entities_that_are_not_heard_of_are_dropped(tmp_path: Path) -> None:
    feature = {"from": "events", "entity": "origin", "windows": ["1h"], "aggregates": {"bags": ["count"]}, "ttl": "2h"}
    engine = SqliteEngine.create(tmp_path / "forgetful.db")
    rows = [event(0, 0), *(event(number, number / 50) | {"origin": "JFK"} for number in range(1, 100)), event(100, 9) | {"origin": "LGA"}]
    tables = {"events": (agreement.DATASET, agreement.table(rows))}
    build_below(engine, "", {"f": Feature.model_validate(feature)}, tables, lambda *_: None, 0)
    store = OnlineStore(engine)
    heads = [key for page in engine.scan(b"h/") for key in page]
    assert (len(heads), len(list(engine.scan(b"t/")))) == (3, 1)
    assert store.expire(0) == 0, "a clock that is behind drops nothing"
    assert store.expire(2**62) == 2
    assert [key for page in engine.scan(b"h/") for key in page] == [b'h/f/["LGA"]']
    assert list(engine.scan(b"t/")) == []
    store.close()


class Beaten:
    """An engine in which another writer always comes first."""

    def __init__(self, engine: SqliteEngine) -> None:
        self.get, self.close = engine.get, engine.close

    def commit(self, guard: bytes, expected: bytes | None, puts: Mapping[bytes, bytes], drops: Collection[bytes]) -> bool:
        return False


def test_a_writer_that_never_comes_first_says_so(store: OnlineStore, tmp_path: Path) -> None:
    beaten = OnlineStore(Beaten(SqliteEngine(tmp_path / "online.db")))  # type: ignore[arg-type]  # what it lacks is not called
    with pytest.raises(Busy, match="other writers"):
        beaten.apply("events", agreement.table([event(0, 0)]), 0)
    with pytest.raises(NotFound, match="no such dataset"):
        beaten.apply("evnts", agreement.table([]), 0)
    beaten.close()
    store.close()


def test_how_far_is_kept_as_bytes() -> None:
    applied = Applied({0: 3, 10: 7}, 9, 5, -1)
    assert Applied.decode(applied.encode()) == applied
    assert Applied.decode(None) == Applied()


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=8), max_size=6))
def test_how_far_only_grows_and_news_are_what_lies_beyond_it(batches: list[list[tuple[int, int]]]) -> None:
    applied = Applied()
    for batch in batches:
        rows = [event(0, 0) | {"_partition": partition, "_offset": offset} for partition, offset in sorted(set(batch))]
        news = applied.news(agreement.table(rows))
        found = set(zip(news.column("_partition").to_pylist(), news.column("_offset").to_pylist(), strict=True))
        assert found == {(partition, offset) for partition, offset in batch if offset >= applied.offsets.get(partition, 0)}
        after = applied.after(news, "events")
        assert after.rows == applied.rows + len(found)
        assert all(after.offsets[partition] >= offset for partition, offset in applied.offsets.items())
        assert all(after.offsets[partition] > offset for partition, offset in batch)
        assert after.news(agreement.table(rows)).num_rows == 0
        applied = after


def test_partitions_are_followed_each_on_its_own(store: OnlineStore) -> None:
    rows = [event(number, 1) | {"_partition": number % 2, "_offset": number // 2} for number in range(10)]
    ahead, behind = [row for row in rows if row["_partition"] == 1], rows[:4]
    assert [store.apply("events", agreement.table(part), 0) for part in (ahead, behind, rows)] == [5, 2, 3]
    assert store.applied()["events"].offsets == {0: 5, 1: 5}
    assert count(store) == 10
    store.close()


def test_a_late_event_changes_what_is_said_of_the_times_after_it_was_known(store: OnlineStore) -> None:
    """It happened first of all, but is known after hour 3 only: answers as of hours before that stay as they were."""
    moments = [agreement.START + timedelta(hours=hours) for hours in (1, 2.5, 3, 4)]

    def seen() -> list[object]:
        return [store.features("w", {"origin": "EWR"}, moment)["w__bags__sum__2d"] for moment in moments]

    store.apply("events", agreement.table([event(1, 1), event(2, 2)]), 0)
    assert seen() == [1, 3, 3, 3]
    late = event(3, 3) | {"bags": 100, "happened_at": agreement.START}
    store.apply("events", agreement.table([late]), 0)
    assert seen() == [1, 3, 103, 103]
    store.close()


def test_a_store_that_is_opened_again_goes_on_where_it_was(store: OnlineStore, tmp_path: Path) -> None:
    rows = [event(number, number / 10) for number in range(30)]
    store.apply("events", agreement.table(rows[:20]), 0)
    store.close()
    again = OnlineStore(SqliteEngine(tmp_path / "online.db"))
    assert again.applied()["events"].rows == count(again) == 20
    assert again.apply("events", agreement.table(rows), 0) == 10
    assert count(again) == 30
    again.close()


def test_a_row_of_the_future_cannot_make_a_store_forget(tmp_path: Path) -> None:
    """The ttl of feature t is three hours, and it keeps twice that: a row of next year drops what is old, but for what the clock says."""
    now_us = round((agreement.START + timedelta(hours=2)).timestamp() * 1e6)
    at = agreement.START + timedelta(hours=2)
    found = []
    for clock_us in (now_us, 2**62):
        engine = SqliteEngine.create(tmp_path / f"{clock_us}.db")
        build_below(
            engine, "", agreement.FEATURES, {"events": (agreement.DATASET, agreement.table([event(1, 1)]))}, lambda *_: None, clock_us
        )
        store = OnlineStore(engine)
        store.apply("events", agreement.table([event(2, 24 * 365)]), clock_us)
        try:
            found.append(store.features("t", {"origin": "EWR"}, at)["t__bags"])
        except DataError as error:
            found.append(type(error).__name__)
        store.close()
    assert found == [1, "DataError"]


FOLLOWER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.store import OnlineStore
from data import agreement
from data.online.test_rows import event
engine = SqliteEngine(Path(sys.argv[1]))
engine.follow_writes()
store = OnlineStore(engine)
print("begun", flush=True)
for end in range(1, 401):
    store.apply("events", agreement.table([event(number, number / 400) for number in range(max(0, end - 30), end)]), 0)
print("done", flush=True)
"""


def test_a_follower_that_is_killed_again_and_again_applies_every_event_once(store: OnlineStore, tmp_path: Path) -> None:
    store.close()
    draw = random.Random(1)
    command = [sys.executable, "-c", FOLLOWER, str(tmp_path / "online.db"), str(TESTS)]
    for attempt in range(8):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        if attempt < 3:
            time.sleep(draw.uniform(0.05, 0.6))
            process.send_signal(signal.SIGKILL)
        process.stdout.read()
        process.stdout.close()
        if process.wait() == 0:
            break
    reader = OnlineStore(SqliteEngine(tmp_path / "online.db"))
    assert reader.applied()["events"].rows == 400
    assert count(reader) == 400
    reader.close()
