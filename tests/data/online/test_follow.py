"""A follower: what a stream gets is soon in the table and in the store, and how far behind it is can be seen."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from bedplate.core.clock import SimClock, SystemClock
from bedplate.core.spec import Dataset, Feature
from bedplate.data.cut import read_cut
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.online.build import build_below
from bedplate.data.online.follow import Followed, Follower, Lag
from bedplate.data.online.store import OnlineStore
from bedplate.data.streams.log import Log
from bedplate.data.target import epoch_of
from data.histories import START

COLUMNS = {"id": "int", "shop": "string", "at": "timestamp", "amount": "int"}
SALES = Dataset.model_validate({"source": "log://sales", "key": ["id"], "known_at": "at", "backfill": "trusted", "columns": COLUMNS})
TOTAL = Feature.model_validate({"from": "sales", "entity": "shop", "windows": ["1d"], "aggregates": {"amount": ["sum"]}})


class Shop:
    """A stream of sales, its table, and a store that was made of the first five."""

    def __init__(self, folder: Path) -> None:
        self.clock = SimClock(START.timestamp())
        self.log = Log(folder / "log" / "sales", SystemClock())
        self.lake = Lake(folder / "lake")
        self.count = 0
        self.errors: list[Exception] = []
        self.sell(5)
        cut = ingest_stream("sales", SALES, self.log, "sales", self.lake, lambda *_: None)
        engine = SqliteEngine.create(folder / "online.db")
        tables = {"sales": (SALES, read_cut(self.lake, "sales", cut.table_version, SALES))}
        build_below(engine, "", {"total": TOTAL}, tables, lambda *_: None, 0)
        self.store = OnlineStore(engine)
        table = self.lake.table("sales")
        assert table is not None
        followed = {"sales": Followed(SALES, self.log, epoch_of(table))}
        self.follower = Follower(self.store, self.lake, followed, self.clock, self.errors.append)

    def sell(self, count: int, amount: object = 1) -> None:
        """Append sales, one a minute."""
        numbers = range(self.count, self.count + count)
        rows = [{"id": n, "shop": "a", "at": (START + timedelta(minutes=n)).isoformat(), "amount": amount} for n in numbers]
        self.log.append([json.dumps(row).encode() for row in rows], producer="till", sequence=self.count)
        self.count += count

    def total(self) -> object:
        """What the store says of the day."""
        return self.store.features("total", {"shop": "a"}, START + timedelta(hours=12))["total__amount__sum__1d"]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_what_is_new_is_applied_once(shop: Shop) -> None:
    assert shop.total() == 5
    shop.sell(3)
    assert [shop.follower.step(), shop.follower.step()] == [3, 0]
    assert shop.total() == 8
    found = shop.store.row("sales", {"id": 7})
    assert found is not None and found["amount"] == 1
    shop.store.close()


def test_what_another_process_ingested_is_applied_too(shop: Shop) -> None:
    shop.sell(2)
    ingest_stream("sales", SALES, shop.log, "sales", shop.lake, lambda *_: None)
    assert shop.follower.step() == 2
    assert shop.total() == 7
    shop.store.close()


def test_the_lag_is_in_records_and_seconds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.follower.step()
    assert shop.follower.lag() == {"sales": Lag(0, 0.0)}
    shop.sell(4)
    monkeypatch.setattr(shop.lake, "table", _unreadable)
    with pytest.raises(OSError):
        shop.follower.step()
    shop.clock.sleep(2.5)
    assert shop.follower.lag() == {"sales": Lag(4, 2.5)}
    monkeypatch.undo()
    shop.follower.step()
    assert shop.follower.lag() == {"sales": Lag(0, 0.0)}
    shop.store.close()


def _unreadable(*_: object) -> None:
    raise OSError("no such disk")


def test_a_record_in_quarantine_does_not_leave_the_store_behind(shop: Shop) -> None:
    shop.sell(1, amount="much")
    assert shop.follower.step() == 0
    assert shop.follower.lag() == {"sales": Lag(0, 0.0)}
    shop.store.close()


def test_a_table_that_was_begun_anew_is_not_followed(shop: Shop, tmp_path: Path) -> None:
    shop.follower.step()
    other = Log(tmp_path / "other", SystemClock())
    other.append([json.dumps({"id": 0, "shop": "a", "at": START.isoformat(), "amount": 100}).encode()], producer="till", sequence=0)
    ingest_stream("sales", SALES, other, "sales", shop.lake, lambda *_: None)
    shop.sell(1)
    shop.follower.step()
    assert "begun anew" in shop.follower.lag()["sales"].stopped
    assert shop.total() == 5
    shop.store.close()


def test_it_follows_by_itself_until_it_is_closed(shop: Shop) -> None:
    shop.follower.start()
    shop.sell(6)
    for _ in range(400):
        if shop.total() == 11:
            break
        SystemClock().sleep(0.05)
    assert shop.follower.close()
    assert (shop.total(), shop.errors) == (11, [])
    shop.store.close()
