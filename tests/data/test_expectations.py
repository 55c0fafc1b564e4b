"""Expectations on real tables: what is set apart while rows come in, and what is found on a version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.clock import SimClock
from bedplate.core.errors import DataError, NotFound
from bedplate.core.spec import Dataset
from bedplate.data.expectations import SAMPLES, Checked, check, stopping
from bedplate.data.ingest import Cut, ingest_file, ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log

NOON_S = 1_704_110_400.0  # 2024-01-01T12:00:00Z
ROWS = [
    (1, "ann", "2024-01-01T09:00:00Z", "5"),
    (2, "bob", "2024-01-01T10:00:00Z", ""),
    (3, "bob", "2024-01-01T11:00:00Z", "-1"),
    (3, "cid", "2024-01-01T11:30:00Z", "2000"),
    (4, "", "2024-01-01T08:00:00Z", "7"),
]
COLUMNS = {"id": "int", "who": "string", "at": "timestamp", "amount": "float"}


def dataset(*expect: dict[str, Any], **fields: Any) -> Dataset:
    return Dataset.model_validate({"source": "sales.csv", "key": ["id"], "columns": COLUMNS, "expect": expect, **fields})


def quiet(done: int, total: int) -> None:
    assert done <= total


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    lines = ["id,who,at,amount", *(",".join(map(str, row)) for row in ROWS)]
    (tmp_path / "sales.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "sales.csv"


def checked(lake: Lake, sales: Path, *expect: dict[str, Any], now_s: float = NOON_S, **fields: Any) -> list[Checked]:
    declared = dataset(*expect, **fields)
    cut = ingest_file("sales", declared, sales, lake, quiet)
    return list(check(lake, "sales", cut.table_version, declared, now_s))


@pytest.mark.parametrize(
    ("rule", "broken", "found"),
    [
        ({"not_null": "amount"}, 1, "1 of 5 rows that break it"),
        ({"not_null": ["id", "at"]}, 0, "0 of 5 rows that break it"),
        ({"range": {"column": "amount", "min": 0, "max": 1000}}, 2, "2 of 5 rows that break it"),
        ({"range": {"column": "at", "min": "2024-01-01T08:30:00Z"}}, 1, "1 of 5 rows that break it"),
        ({"unique": "id"}, 1, "1 of 5 rows that repeat one"),
        ({"unique": ["id", "who"]}, 0, "0 of 5 rows that repeat one"),
        ({"sql": "who <> 'bob' OR amount > 0"}, 1, "1 of 5 rows that break it"),
    ],
)
def test_rows_that_break_a_rule_are_counted(lake: Lake, sales: Path, rule: dict[str, Any], broken: int, found: str) -> None:
    [result] = checked(lake, sales, rule)
    assert (result.held, result.broken, result.rows, result.found) == (not broken, broken, 5, found)
    assert len(result.samples) == broken
    assert (stopping("sales", [result]) is None) == result.held


@pytest.mark.parametrize(
    ("rule", "fields", "held", "found"),
    [
        ({"rows": {"min": 5, "max": 5}}, {}, True, "5 rows"),
        ({"rows": {"min": 6}}, {}, False, "5 rows"),
        ({"rows": {"max": 4}}, {}, False, "5 rows"),
        ({"freshness": "1h"}, {"event_time": "at"}, True, "at 2024-01-01T11:30:00.000Z, 0.5 h ago"),
        ({"freshness": "20m"}, {"known_at": "at"}, False, "at 2024-01-01T11:30:00.000Z, 0.5 h ago"),
        ({"freshness": "1h"}, {}, True, "_arrived_at"),  # the file came to rest just now, after noon of that day
    ],
)
def test_rules_about_the_table(lake: Lake, sales: Path, rule: dict[str, Any], fields: dict[str, Any], held: bool, found: str) -> None:
    [result] = checked(lake, sales, rule, **fields)
    assert result.held == held
    assert result.found.startswith(found)
    assert result.samples == ()


def test_an_empty_table_is_not_fresh(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("id,who,at,amount\n")
    fresh, unique = checked(lake, tmp_path / "none.csv", {"freshness": "1d"}, {"unique": "id"}, event_time="at")
    assert (fresh.held, fresh.found) == (False, "no at")
    assert unique.held


def test_values_that_repeat_are_found_but_nulls_are_not_alike(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text(
        "id,who,at,amount\n" + "".join(f"{n},{who},,\n" for n, who in enumerate(["", "", "a", "b", "a", "a", "b"]))
    )
    [result] = checked(lake, tmp_path / "twice.csv", {"unique": "who"})
    assert (result.broken, result.samples) == (3, ({"who": "a", "_times": "3"}, {"who": "b", "_times": "2"}))


def test_samples_show_place_key_and_what_the_rule_is_about_but_no_person(lake: Lake, sales: Path) -> None:
    [result] = checked(lake, sales, {"sql": "who IS NULL AND amount = 0"}, subject="who")
    assert len(result.samples) == SAMPLES < result.broken
    assert result.samples[0] == {"_partition": "0", "_offset": "0", "id": "1", "amount": "5.0"}
    assert "samples" not in result.recorded()
    assert json.loads(json.dumps(result.recorded()))["broken"] == result.broken
    [unique] = checked(lake, sales, {"unique": "who"}, subject="who")
    assert unique.samples == ({"_times": "2"},)


def test_an_error_names_counts_and_rows_of_what_stops_only(lake: Lake, sales: Path) -> None:
    warn, stop, fine = checked(lake, sales, {"not_null": "amount", "otherwise": "warn"}, {"unique": "id"}, {"rows": {"min": 1}})
    assert stopping("sales", [warn, fine]) is None
    error = stopping("sales", [warn, stop, fine])
    assert isinstance(error, DataError)
    assert error.what == (
        "dataset 'sales' breaks 1 of its expectations, so no version was accepted: "
        "expected id unique, found 1 of 5 rows that repeat one (for example id 3, times 2)"
    )
    assert "`bedplate data check sales`" in error.one_line()


def test_rows_are_set_apart_with_reason_bytes_and_place(lake: Lake, sales: Path) -> None:
    rules = [
        {"range": {"column": "amount", "min": 0, "max": 1000}, "otherwise": "quarantine"},
        {"sql": "who <> 'zed'", "name": "somebody", "otherwise": "quarantine"},
        {"unique": "id"},
    ]
    apart, named, unique = checked(lake, sales, *rules)
    assert (apart.held, apart.broken, apart.quarantined, apart.found) == (True, 0, 2, "0 of 3 rows that break it, 2 in quarantine")
    assert (named.quarantined, named.rows) == (0, 3)  # an empty cell of a text column is null: nobody is there, and null is no error
    assert unique.held
    kept = sorted(lake.read("sales_quarantine").to_pylist(), key=lambda row: row["_offset"])
    assert [(row["_offset"], row["problem"], row["raw"]) for row in kept] == [
        (2, "expected amount in 0..1000", b"3,bob,2024-01-01T11:00:00Z,-1"),
        (3, "expected amount in 0..1000", b"3,cid,2024-01-01T11:30:00Z,2000"),
    ]
    assert kept[0]["reason"] == "expected amount in 0..1000 (got -1.0)"


def test_a_rule_that_sets_apart_makes_other_rows_and_other_rules_do_not(lake: Lake, sales: Path) -> None:
    def cut(*expect: dict[str, Any]) -> Cut:
        return ingest_file("sales", dataset(*expect), sales, lake, quiet)

    plain = cut()
    assert cut({"not_null": "amount"}) == plain
    apart = cut({"not_null": "amount", "otherwise": "quarantine"})
    assert (apart.rows, apart.quarantined, dict(apart.reasons)) == (4, 1, {"expected amount not null": 1})
    assert apart.digest != plain.digest
    again = cut()
    assert (again.rows, again.quarantined, again.digest) == (5, 0, plain.digest)


def test_records_of_a_stream_are_set_apart_once_and_in_their_bytes(lake: Lake, tmp_path: Path) -> None:
    log = Log(tmp_path / "log", SimClock(NOON_S))
    records = [json.dumps({"id": n, "who": None if n % 7 == 6 else "x", "amount": n, "more": "kept"}).encode() for n in range(60)]
    log.append([*records, b"not json"], producer="p", sequence=0)
    declared = dataset(
        {"not_null": "who", "otherwise": "quarantine"},
        {"sql": "amount % 10 <> 9", "name": "no nine", "otherwise": "quarantine"},
        source="log://sales",
    )
    for _ in range(2):
        cut = ingest_stream("sales", declared, log, "sales", lake, quiet, commit_records=16)
    nobody, nine = ({n for n in range(60) if n % 7 == 6}, {n for n in range(60) if n % 10 == 9})
    assert sorted(lake.read("sales")["id"].to_pylist()) == sorted(set(range(60)) - nobody - nine)
    kept = {row["_offset"]: row for row in lake.read("sales_quarantine").to_pylist()}
    assert sorted(kept) == sorted(nobody | nine | {60})
    assert all(kept[n]["raw"] == records[n] for n in nobody | nine)
    results = check(lake, "sales", cut.table_version, declared, NOON_S)
    assert [each.quarantined for each in results] == [len(nobody), len(nine - nobody)]
    assert all(each.held for each in results)


def test_a_rule_that_cannot_be_checked_is_told(lake: Lake, sales: Path) -> None:
    with pytest.raises(DataError, match=r"expectation 'amuont not null' of dataset 'sales'.*did you mean 'amount'"):
        checked(lake, sales, {"not_null": "amuont"})
    with pytest.raises(DataError, match=r"expectation 'amount > sum.id.' of dataset 'sales'.*aggregates"):
        checked(lake, sales, {"sql": "amount > sum(id)"})
    with pytest.raises(DataError, match="newest within 1h"):
        checked(lake, sales, {"freshness": "1h"}, event_time="who")
    with pytest.raises(NotFound, match="no such table"):
        check(lake, "other", 0, dataset({"not_null": "id"}), NOON_S)
    assert check(lake, "other", 0, dataset(), NOON_S) == ()
