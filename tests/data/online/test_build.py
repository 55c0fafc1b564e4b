"""Making a store: one digest for one content, and a file that is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.build import build, build_below, drop
from bedplate.data.online.store import OnlineStore
from data import agreement

EVENTS = agreement.history(9)[0]
TABLES = {"events": (agreement.DATASET, agreement.table(EVENTS))}


def test_equal_content_has_one_digest(tmp_path: Path) -> None:
    other = {"events": (agreement.DATASET, agreement.table(EVENTS[:-1]))}
    cuts = {"a": TABLES, "b": TABLES, "c": other}
    digests = [build(tmp_path / name, agreement.FEATURES, tables, lambda *_: None, 0) for name, tables in cuts.items()]
    assert digests[0] == digests[1] != digests[2]


def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    build(path, agreement.FEATURES, TABLES, lambda *_: None, 0)
    before = path.read_bytes()

    def fail(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, agreement.FEATURES, TABLES, fail, 0)
    with pytest.raises(DataError, match="dataset are missing"):
        build(path, agreement.FEATURES, {}, lambda *_: None, 0)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_progress_is_told_to_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    build(tmp_path / "online.db", agreement.FEATURES, TABLES, lambda done, total: told.append((done, total)), 0)
    assert told[0] == (0, 4) and told[-1] == (4, 4)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_stores_share_a_database_by_their_names(tmp_path: Path) -> None:
    engine = SqliteEngine.create(tmp_path / "shared.db")
    for name in ("one:", "two:"):
        build_below(engine, name, agreement.FEATURES, TABLES, lambda *_: None, 0)
    spine = agreement.history(9)[1]
    before = agreement.online(OnlineStore(engine, "two:"), spine)
    assert drop(engine, "one:") > 3
    assert agreement.online(OnlineStore(engine, "two:"), spine) == before
    engine.close()
