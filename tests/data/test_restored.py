"""Rollback beneath exactly-once: whatever is ingested, restored, compacted or killed, a table holds each row up to its offset once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SystemClock
from bedplate.core.errors import Busy
from bedplate.core.spec import Dataset
from bedplate.data.ingest import Cut, ingest_stream, source_of
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.data.target import Target

DATASET = Dataset.model_validate({"source": "log://n", "key": ["id"], "columns": {"id": "int"}})


def fill(log: Log, end: int) -> None:
    start = log.next_sequence("p")
    log.append([json.dumps({"id": "x" if n % 10 == 9 else n}).encode() for n in range(start, end)], producer="p", sequence=start)


def ingest(log: Log, lake: Lake, end: int | None = None, commit_records: int = 100_000) -> Cut:
    up_to = None if end is None else {0: end}
    return ingest_stream("n", DATASET, log, "n", lake, lambda done, total: None, up_to, commit_records)


def restore(log: Log, lake: Lake, version: int, once: str) -> None:
    table = lake.table("n")
    assert table is not None
    Target(table, source_of(DATASET, ("stream", log.identity)), "n").restore(version, [0], once)


def holds(lake: Lake, table: str, version: int | None = None) -> list[int]:
    return sorted(lake.read(table, version)["_offset"].to_pylist())


def up_to(end: int) -> list[int]:
    return [n for n in range(end) if n % 10 != 9]


def test_the_same_decision_is_carried_out_once(tmp_path: Path) -> None:
    log, lake = Log(tmp_path / "log", SystemClock()), Lake(tmp_path / "lake")
    fill(log, 30)
    first = ingest(log, lake, 10)
    ingest(log, lake)
    restore(log, lake, first.table_version, "one")
    assert holds(lake, "n") == up_to(10)
    ingest(log, lake)
    restore(log, lake, first.table_version, "one")
    assert holds(lake, "n") == up_to(30), "that was done before: what came since stays"
    restore(log, lake, first.table_version, "two")
    assert holds(lake, "n") == up_to(10)


def test_reading_on_makes_the_same_content_again(tmp_path: Path) -> None:
    log, lake = Log(tmp_path / "log", SystemClock()), Lake(tmp_path / "lake")
    fill(log, 30)
    first, second = ingest(log, lake, 10), ingest(log, lake)
    restore(log, lake, first.table_version, "one")
    again = ingest(log, lake)
    assert (again.digest, again.rows, again.quarantined) == (second.digest, second.rows, second.quarantined)


def test_an_ingestion_that_was_under_way_cannot_skip_what_was_taken_back(tmp_path: Path) -> None:
    log, lake = Log(tmp_path / "log", SystemClock()), Lake(tmp_path / "lake")
    fill(log, 60)
    first = ingest(log, lake, 10)
    rolled = []

    def progress(done: int, total: int) -> None:
        if not rolled:
            rolled.append(restore(log, lake, first.table_version, "one"))

    with pytest.raises(Busy, match="replaced the table while this one wrote to it"):
        ingest_stream("n", DATASET, log, "n", lake, progress, commit_records=20)
    assert holds(lake, "n") == up_to(10)
    ingest(log, lake)
    assert holds(lake, "n") == up_to(60)


def test_under_another_declaration_all_is_read_anew(tmp_path: Path) -> None:
    log, lake = Log(tmp_path / "log", SystemClock()), Lake(tmp_path / "lake")
    fill(log, 20)
    first = ingest(log, lake, 10)
    wider = DATASET.model_copy(update={"columns": {"id": "float"}})
    ingest_stream("n", wider, log, "n", lake, lambda done, total: None)
    table = lake.table("n")
    assert table is not None
    Target(table, source_of(wider, ("stream", log.identity)), "n").restore(first.table_version, [0], "one")
    assert str(lake.read("n")["id"].type) == "int64", "the columns of then"
    ingest_stream("n", wider, log, "n", lake, lambda done, total: None)
    assert str(lake.read("n")["id"].type) == "double"
    assert holds(lake, "n") == up_to(20)


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 25)),
    st.tuples(st.just("ingest"), st.integers(5, 40)),
    st.tuples(st.just("restore"), st.integers(0, 5)),
    st.tuples(st.just("compact"), st.just(2)),
)


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(STEP, min_size=3, max_size=9))
def test_any_order_of_ingestion_rollback_and_compaction(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("steps")
    log, lake = Log(folder / "log", SystemClock()), Lake(folder / "lake")
    end = 12
    fill(log, end)
    cuts, now = [ingest(log, lake)], end
    for place, (what, number) in enumerate(steps):
        if what == "append":
            end += number
            fill(log, end)
        elif what == "ingest":
            cuts.append(ingest(log, lake, commit_records=number))
            now = end
        elif what == "restore":
            cut = cuts[number % len(cuts)]
            restore(log, lake, cut.table_version, f"r{place}")
            now = cut.offsets[0]
        else:
            table = lake.table("n")
            assert table is not None
            table.compact(number)
        assert holds(lake, "n") == up_to(now)
    for cut in cuts:
        assert holds(lake, "n", cut.table_version) == up_to(cut.offsets[0]), "every version stays what it was"
    assert holds(lake, "n_quarantine") == [n for n in range(max(cut.offsets[0] for cut in cuts)) if n % 10 == 9]


KILLED = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from data.test_restored import Lake, Log, SystemClock, ingest, restore
    log, lake = Log(Path(sys.argv[1], "log"), SystemClock()), Lake(Path(sys.argv[1], "lake"))
    print("began", flush=True)
    for number in range(10_000):
        restore(log, lake, int(sys.argv[3]), f"{sys.argv[4]}-{number}")
        ingest(log, lake, commit_records=15)
""")


def test_killed_at_any_instant_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    log, lake = Log(tmp_path / "log", SystemClock()), Lake(tmp_path / "lake")
    fill(log, 100)
    first = ingest(log, lake, 10)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    wait = random.Random(seed)
    for number in range(3):
        words = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parents[1]), str(first.table_version), str(number)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "began\n"
            time.sleep(wait.uniform(0.0, 0.4))
            process.kill()
        ingest(log, lake)
        assert holds(lake, "n") == up_to(100)
        assert holds(lake, "n_quarantine") == list(range(9, 100, 10))
