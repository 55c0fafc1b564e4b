"""Where an endpoint's store is: a version stays as it is while a replica updates its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import NotFound
from bedplate.data.online.store import OnlineStore
from bedplate.flow.online import Place, base_file, open_live, open_store, read_base
from data import agreement
from data.online.test_answer import store_of
from data.online.test_rows import event


def count(store: OnlineStore) -> object:
    """How many rows are applied."""
    return store.applied()["events"].rows


def test_a_replica_updates_a_copy_of_its_own(tmp_path: Path) -> None:
    version = tmp_path / "version" / "online.db"
    version.parent.mkdir()
    store_of(version, [event(0, 0)]).close()
    before = version.read_bytes()
    live = open_live(version, tmp_path / "out")
    live.apply("events", agreement.table([event(1, 1)]), 0)
    kept = open_store(version)
    assert (count(live), count(kept)) == (2, 1)
    assert version.read_bytes() == before
    live.close()
    kept.close()
    again = open_live(version, tmp_path / "out")
    assert count(again) == 1, "a restarted replica begins with the version, and follows from there"
    again.close()


def test_a_place_in_a_database_is_a_file_without_secrets(tmp_path: Path) -> None:
    place = Place("redis://:${REDIS_PASSWORD}@cache:6379/0", "bedplate:prices:")
    place.write(tmp_path / "online.json")
    assert Place.read(tmp_path / "online.json") == place
    assert "${REDIS_PASSWORD}" in (tmp_path / "online.json").read_text()


def test_no_base_and_no_store(tmp_path: Path) -> None:
    assert read_base(tmp_path, "prices.features") == {}
    assert base_file(tmp_path, "prices.features").parent == tmp_path / "online"
    with pytest.raises(NotFound):
        open_store(tmp_path / "online.db")
