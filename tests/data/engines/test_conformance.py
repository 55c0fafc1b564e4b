"""What every database of an online store must do, and a whole store in each."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from bedplate.data.online.build import build_below, drop
from bedplate.data.online.keys import Keys
from bedplate.data.online.protocol import OnlineEngine
from bedplate.data.online.store import OnlineStore
from data import agreement

GUARD = b"guard"
ODD = [b"", b"\x00", bytes(range(256)), "ключ/ü[*?]".encode(), b"a" * 500]


def test_bytes_come_back_as_they_were_in_the_order_that_was_asked(engine: OnlineEngine) -> None:
    rows = {b"k" + key: key for key in ODD}
    assert engine.commit(GUARD, None, {**rows, GUARD: b"1"}, [])
    asked = [*reversed(rows), b"not there", *rows]
    assert engine.get(asked) == [*reversed(rows.values()), None, *rows.values()]
    assert engine.get([]) == []


def test_a_commit_is_made_only_when_the_guard_is_as_expected(engine: OnlineEngine) -> None:
    assert not engine.commit(GUARD, b"0", {b"a": b"1"}, [])
    assert engine.commit(GUARD, None, {GUARD: b"", b"a": b"1", b"b": b"1"}, [])
    assert not engine.commit(GUARD, None, {b"a": b"2"}, [b"b"])
    assert not engine.commit(GUARD, b"other", {b"a": b"2"}, [b"b"])
    assert engine.get([b"a", b"b"]) == [b"1", b"1"]
    assert engine.commit(GUARD, b"", {GUARD: b"2", b"a": b"2"}, [b"b", b"not there"])
    assert engine.get([GUARD, b"a", b"b"]) == [b"2", b"2", None]


def test_of_writers_that_race_each_wins_in_turn(opener: Callable[[], OnlineEngine]) -> None:
    opener().commit(GUARD, None, {GUARD: b"0"}, [])
    lost = []

    def count() -> None:
        engine = opener()
        for _ in range(20):
            while True:
                (before,) = engine.get([GUARD])
                assert before is not None
                after = str(int(before) + 1).encode()
                if engine.commit(GUARD, before, {GUARD: after, b"n" + after: b""}, []):
                    break
                lost.append(before)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [key for page in opener().scan(b"n") for key in page]
    assert opener().get([GUARD]) == [b"60"]
    assert len(set(keys)) == 60


def test_keys_by_their_beginning(engine: OnlineEngine) -> None:
    engine.load((b"x[*" + str(number).encode(), b"") for number in range(2500))
    engine.load([(b"x[", b""), (b"x*1", b""), (b"y", b"")])
    found = [key for page in engine.scan(b"x[*") for key in page]
    assert set(found) == {b"x[*" + str(number).encode() for number in range(2500)}
    assert [key for page in engine.scan(b"none") for key in page] == []


def test_threads_share_an_engine(engine: OnlineEngine) -> None:
    engine.load([(b"a", b"1")])
    found: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: found.extend(engine.get([b"a"]))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"1"] * 5


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_sequence_of_commits_and_loads_leaves_what_a_mapping_would_hold(engine: OnlineEngine, seed: int) -> None:
    draw, kept = random.Random(seed), {}
    names = [bytes([letter]) + odd for letter in b"abc" for odd in ODD]
    for _ in range(60):
        puts = {name: draw.randbytes(draw.choice([0, 1, 300])) for name in draw.sample(names, draw.randrange(4))}
        drops = [name for name in draw.sample(names, draw.randrange(4)) if name not in puts]
        if draw.random() < 0.2:
            engine.load(puts.items())
            kept |= puts
            continue
        expected = draw.choice([kept.get(GUARD), kept.get(GUARD), b"wrong", None])
        puts[GUARD] = draw.randbytes(4)
        assert engine.commit(GUARD, expected, puts, drops) == (expected == kept.get(GUARD))
        if expected == kept.get(GUARD):
            kept = {name: body for name, body in (kept | puts).items() if name not in drops}
    assert engine.get([GUARD, *names]) == [kept.get(name) for name in [GUARD, *names]]
    assert {key for page in engine.scan(b"") for key in page} == set(kept)
    for letter in (b"a", b"b", b"c"):
        assert {key for page in engine.scan(letter) for key in page} == {name for name in kept if name.startswith(letter)}


def test_a_key_that_is_asked_for_twice_is_answered_twice(engine: OnlineEngine) -> None:
    engine.load([(b"a", b"1"), (b"b", b"")])
    assert engine.get([b"a", b"b", b"a", b"c", b"c"]) == [b"1", b"", b"1", None, None], "nothing in a row is not no row"


def test_a_row_that_is_loaded_twice_has_the_later_body(engine: OnlineEngine) -> None:
    engine.load([(b"a", b"1"), (b"a", b"2")])
    engine.load([])
    assert engine.get([b"a"]) == [b"2"]


def test_a_reader_never_sees_half_of_a_commit(opener: Callable[[], OnlineEngine]) -> None:
    writer, names = opener(), [GUARD, *(b"row%d" % number for number in range(20))]
    assert writer.commit(GUARD, None, dict.fromkeys(names, b"0"), [])
    done, torn = threading.Event(), []

    def read() -> None:
        engine = opener()
        while not done.is_set():
            seen = set(engine.get(names))
            if len(seen) != 1:
                torn.append(seen)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(50):
            assert writer.commit(GUARD, b"%d" % number, dict.fromkeys(names, b"%d" % (number + 1)), [])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert torn == []
    assert set(opener().get(names)) == {b"50"}


def test_what_was_committed_is_there_for_whoever_opens_the_database_next(opener: Callable[[], OnlineEngine]) -> None:
    first = opener()
    assert first.commit(GUARD, None, {GUARD: b"1", b"a": b"x"}, [])
    first.close()
    again = opener()
    assert again.get([b"a", GUARD]) == [b"x", b"1"]
    assert not again.commit(GUARD, None, {b"a": b"y"}, []) and again.get([b"a"]) == [b"x"]


@pytest.mark.parametrize("seed", [3, 11])
def test_a_store_is_filled_and_updated_and_answers(engine: OnlineEngine, seed: int) -> None:
    events, spine = agreement.history(seed)
    with agreement.small_heads(3):
        store = agreement.streamed(engine, f"bedplate:{seed}:", events, seed)
        agreement.assert_agree(agreement.online(store, spine), agreement.reference(spine, events), f"seed {seed}")


def test_two_followers_apply_every_event_once(opener: Callable[[], OnlineEngine]) -> None:
    events, spine = agreement.history(5)
    build_below(opener(), "two:", agreement.FEATURES, {"events": (agreement.DATASET, agreement.table([]))}, lambda *_: None, 0)
    stores = [OnlineStore(opener(), "two:") for _ in range(2)]
    counts = []

    def follow(store: OnlineStore) -> None:
        for end in range(1, len(events) + 1):
            counts.append(store.apply("events", agreement.table(events[:end]), 0))

    threads = [threading.Thread(target=follow, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == len(events)
    agreement.assert_agree(agreement.online(stores[0], spine), agreement.reference(spine, events), "two followers")


def test_a_store_can_be_dropped_beside_another(engine: OnlineEngine) -> None:
    tables = {"events": (agreement.DATASET, agreement.table(agreement.history(7)[0]))}
    first, again = (build_below(engine, name, agreement.FEATURES, tables, lambda *_: None, 0) for name in ("one:", "two:"))
    assert first != again, "the names are part of the keys"
    assert drop(engine, "one:") > 0
    assert list(engine.scan(b"one:")) == []
    assert engine.get([Keys("two:").meta]) != [None]
