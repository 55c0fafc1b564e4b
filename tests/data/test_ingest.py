"""Ingestion end to end: each row exactly once, whatever is killed and whoever else ingests; what does not fit is kept with its reason."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from bedplate.core.clock import SimClock, SystemClock
from bedplate.core.errors import Busy, DataError
from bedplate.core.protocols import StreamRecord
from bedplate.core.spec import Dataset
from bedplate.data.ingest import Cut, ingest_file, ingest_stream, read_cut
from bedplate.data.lake import COMPACT_FILES, Lake, Table
from bedplate.data.streams.log import Log
from bedplate.data.target import Target

COLUMNS = {"id": "int", "name": "string", "at": "timestamp"}
DATASET = Dataset.model_validate({"source": "log://things", "key": ["id"], "known_at": "at", "columns": COLUMNS})


def record(number: int) -> bytes:
    """One record; every tenth is bad, in one of three ways."""
    if number % 10 == 9:
        return [b"not json", b'{"id": null}', b'{"id": "%d"}' % number][number // 10 % 3]
    return json.dumps({"id": number, "name": f"n{number}", "at": "2013-01-01T10:00:00Z"}).encode()


def fill(log: Log, end: int, **where: int) -> None:
    start = log.next_sequence("p")
    log.append([record(number) for number in range(start, end)], producer="p", sequence=start, **where)


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def ingest(log: Any, lake: Lake, dataset: Dataset = DATASET, **options: Any) -> Cut:
    return ingest_stream("things", dataset, log, "things", lake, quiet, **options)


def offsets(lake: Lake, name: str = "things") -> list[int]:
    return [int(offset) for offset in lake.read(name)["_offset"].to_pylist()]


def assert_exactly_once(lake: Lake, end: int) -> None:
    """Each record is in the table or in its quarantine, once."""
    assert sorted(offsets(lake)) == [number for number in range(end) if number % 10 != 9]
    assert sorted(offsets(lake, "things_quarantine")) == list(range(9, end, 10))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log", SimClock(1_500.25))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_records_become_rows_with_places_and_times(log: Log, lake: Lake) -> None:
    fill(log, 25)
    told: list[tuple[int, int]] = []
    cut = ingest_stream("things", DATASET, log, "things", lake, lambda done, total: told.append((done, total)), commit_records=10)
    assert (cut.table, cut.rows, cut.quarantined, dict(cut.offsets)) == ("things", 23, 2, {0: 25})
    assert told == [(10, 25), (20, 25), (25, 25)]
    table = read_cut(lake, "things", cut.table_version, DATASET)
    assert table["id"].to_pylist() == table["_offset"].to_pylist()
    assert {moment.timestamp() for moment in table["_arrived_at"].to_pylist()} == {1_500.25}
    assert_exactly_once(lake, 25)


def test_bad_rows_are_kept_with_reason_bytes_and_place(log: Log, lake: Lake) -> None:
    fill(log, 70)
    cut = ingest(log, lake)
    assert dict(cut.reasons) == {"not valid JSON": 3, "id: null in a key": 2, "id: not an int": 2}
    rows = sorted(lake.read("things_quarantine").to_pylist(), key=lambda row: row["_offset"])
    assert [(row["_partition"], row["_offset"], row["raw"]) for row in rows] == [(0, number, record(number)) for number in range(9, 70, 10)]
    assert rows[2]["reason"] == "id: not an int (got '\"29\"')"
    assert {row["_arrived_at"].timestamp() for row in rows} == {1_500.25}


def test_nothing_new_is_no_commit_and_more_is_only_what_is_new(log: Log, lake: Lake) -> None:
    fill(log, 20)
    first = ingest(log, lake)
    assert ingest(log, lake) == first
    fill(log, 30)
    second = ingest(log, lake)
    assert (second.table_version, dict(second.offsets)) == (first.table_version + 1, {0: 30})
    assert second.digest != first.digest
    assert_exactly_once(lake, 30)
    assert read_cut(lake, "things", first.table_version, DATASET).num_rows == first.rows == 18, "the first cut reads as it did"
    assert [dict(commit.offsets) for commit in lake.history("things")[:2]] == [{0: 30}, {0: 20}]


def test_ingestion_stops_where_it_is_told(log: Log, lake: Lake) -> None:
    fill(log, 30)
    assert dict(ingest(log, lake, up_to={0: 12}).offsets) == {0: 12}
    assert_exactly_once(lake, 12)
    with pytest.raises(DataError, match=r"ends at 30 in partition 0.*got 31"):
        ingest(log, lake, up_to={0: 31})


def test_every_partition_is_read(tmp_path: Path, lake: Lake) -> None:
    log = Log(tmp_path / "many", SystemClock(), partitions=3)
    for end, partition in ((10, 2), (25, 0), (40, 2)):
        fill(log, end, partition=partition)
    cut = ingest(log, lake, commit_records=7)
    assert (dict(cut.offsets), cut.rows, cut.quarantined) == ({0: 15, 1: 0, 2: 25}, 36, 4)
    table = read_cut(lake, "things", cut.table_version, DATASET)
    assert table["_partition"].to_pylist() == sorted(table["_partition"].to_pylist())
    assert sorted(table["id"].to_pylist()) == [number for number in range(40) if number % 10 != 9]


def test_an_empty_stream_gives_an_empty_table(log: Log, lake: Lake) -> None:
    cut = ingest(log, lake)
    assert (cut.rows, dict(cut.offsets)) == (0, {0: 0})
    assert read_cut(lake, "things", cut.table_version, DATASET).num_rows == 0


def test_the_digest_names_the_content_not_the_commits(log: Log, lake: Lake, tmp_path: Path) -> None:
    fill(log, COMPACT_FILES + 10)
    whole = ingest(log, Lake(tmp_path / "other"))
    pieces = ingest(log, lake, commit_records=1)
    assert lake.history("things")[0].operation == "OPTIMIZE"
    assert pieces.digest == whole.digest
    assert pieces.table_version != whole.table_version
    assert_exactly_once(lake, COMPACT_FILES + 10)


def test_fields_that_nobody_declared_are_ignored_and_counted(log: Log, lake: Lake) -> None:
    log.append([b'{"id": 1, "colour": "red"}', b'{"id": 2, "colour": 7, "x": null}'], producer="p", sequence=0)
    cut = ingest(log, lake)
    assert (cut.rows, dict(cut.ignored)) == (2, {"colour": 2, "x": 1})


def test_columns_that_nobody_declared_are_inferred_once(log: Log, lake: Lake) -> None:
    undeclared = Dataset(source="log://things")
    log.append([b'{"id": 1, "share": 1}', b'{"id": 2, "share": 0.5}'], producer="p", sequence=0)
    first = ingest(log, lake, undeclared)
    log.append([b'{"id": 3, "share": 2, "new": 1}', b'{"id": "4"}'], producer="p", sequence=2)
    second = ingest(log, lake, undeclared)
    table = read_cut(lake, "things", second.table_version, undeclared)
    assert table.select(["id", "share"]).to_pydict() == {"id": [1, 2, 3], "share": [1.0, 0.5, 2.0]}
    assert (first.quarantined, dict(second.reasons), dict(second.ignored)) == (0, {"id: not an int": 1}, {"new": 1})


def test_another_declaration_begins_the_table_anew_and_leaves_old_versions(log: Log, lake: Lake) -> None:
    fill(log, 20)
    first = ingest(log, lake)
    wider = DATASET.model_copy(update={"columns": {**COLUMNS, "id": "float", "size": "float"}})
    second = ingest(log, lake, wider)
    assert read_cut(lake, "things", second.table_version, wider)["id"].to_pylist() == [float(n) for n in range(20) if n % 10 != 9]
    assert second.digest != first.digest
    assert read_cut(lake, "things", first.table_version, DATASET).num_rows == 18
    back = ingest(log, lake)
    assert (back.digest, back.rows, back.quarantined) == (first.digest, 18, 2)
    assert_exactly_once(lake, 20)


def test_a_stream_made_anew_replaces_the_rows_of_the_old_one(tmp_path: Path, lake: Lake) -> None:
    old, new = Log(tmp_path / "old", SystemClock()), Log(tmp_path / "new", SystemClock())
    fill(old, 40)
    fill(new, 20)
    assert ingest(old, lake).digest != ingest(new, lake).digest
    assert_exactly_once(lake, 20)


class Shortened:
    """A stream that lost its tail."""

    def __init__(self, log: Log, end: int) -> None:
        self.identity = log.identity
        self._log, self._end = log, end
        self.begin_offsets = log.begin_offsets

    def end_offsets(self) -> dict[int, int]:
        return {0: self._end}

    def read(self, partition: int, offset: int, limit: int) -> list[StreamRecord]:
        return list(self._log.read(partition, offset, min(limit, self._end - offset)))


def test_a_stream_that_is_behind_its_table_is_an_error_and_any_stream_will_do(log: Log, lake: Lake) -> None:
    fill(log, 30)
    assert ingest(Shortened(log, 20), lake).rows == 18, "a stream that gives no blocks is read by its records"
    with pytest.raises(DataError, match=r"ends at 10 in partition 0, before what its table holds.*got 20"):
        ingest(Shortened(log, 10), lake)
    assert_exactly_once(lake, 20)


def test_a_name_like_that_of_a_quarantine_is_refused(log: Log, lake: Lake) -> None:
    with pytest.raises(DataError, match="ends like that of a quarantine"):
        ingest_stream("x_quarantine", DATASET, log, "things", lake, quiet)


class Trimmed:
    """A stream that has deleted its oldest records, as a broker does."""

    def __init__(self, log: Log, begin: int) -> None:
        self.identity, self._log, self._begin = log.identity, log, begin
        self.end_offsets = log.end_offsets

    def begin_offsets(self) -> dict[int, int]:
        return {0: self._begin}

    def read(self, partition: int, offset: int, limit: int) -> list[StreamRecord]:
        assert offset >= self._begin, "what is gone is not asked for"
        return list(self._log.read(partition, offset, limit))


def test_a_stream_that_has_deleted_records_begins_with_what_is_left(log: Log, lake: Lake) -> None:
    fill(log, 30)
    cut = ingest(Trimmed(log, 12), lake)
    assert (cut.rows, dict(cut.offsets)) == (16, {0: 30})
    assert min(offsets(lake)) == 12
    assert ingest(Trimmed(log, 30), lake).table_version == cut.table_version, "all of it is there already"


def test_records_that_were_deleted_before_they_were_read_are_an_error_and_no_gap(log: Log, lake: Lake) -> None:
    fill(log, 30)
    ingest(log, lake, up_to={0: 20})
    with pytest.raises(DataError, match=r"has deleted 5 records of partition 0 before they were read \(got 20\).*retention"):
        ingest(Trimmed(log, 25), lake)
    assert_exactly_once(lake, 20)


class Silent(Shortened):
    """A stream that tells an end and gives nothing."""

    def read(self, partition: int, offset: int, limit: int) -> list[StreamRecord]:
        return []


def test_a_stream_that_gives_nothing_before_its_end_is_an_error(log: Log, lake: Lake) -> None:
    fill(log, 10)
    with pytest.raises(DataError, match="partition 0 of the stream ends before its own end"):
        ingest(Silent(log, 10), lake, Dataset.model_validate({"source": "log://things", "columns": COLUMNS}))
    assert lake.read("things").num_rows == 0


def test_other_tools_read_what_was_written(log: Log, lake: Lake) -> None:
    fill(log, 30)
    ingest(log, lake)
    assert DeltaTable(str(lake.scratch / "things")).to_pyarrow_table().num_rows == 27
    connection = duckdb.connect()
    connection.register("things", lake.dataset("things"))
    assert connection.sql("SELECT count(*), max(id), min(_offset) FROM things").fetchall() == [(27, 28, 0)]
    connection.close()


class Interrupted(Exception):
    """A kill between two commits, as an exception in the place where it strikes."""


def stop_after(commits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many commits pass, and none after them."""
    write_to, left = Table.write, iter(range(commits))

    def limited(table: Table, prepare: Any) -> bool:
        if next(left, None) is None:
            raise Interrupted
        return write_to(table, prepare)

    monkeypatch.setattr(Table, "write", limited)


def test_a_crash_between_any_two_commits_neither_loses_nor_doubles(log: Log, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log, 50)
    interrupted = 0
    for commits in range(1, 14):
        with monkeypatch.context() as patched:
            stop_after(commits, patched)
            try:
                ingest(log, lake, commit_records=9)
            except Interrupted:
                interrupted += 1
    assert interrupted > 3
    ingest(log, lake)
    assert_exactly_once(lake, 50)


INGESTER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from bedplate.core.clock import SystemClock
    from bedplate.core.spec import Dataset
    from bedplate.data.ingest import ingest_stream
    from bedplate.data.lake import Lake
    from bedplate.data.streams.log import Log
    state, dataset, step = Path(sys.argv[1]), Dataset.model_validate_json(sys.argv[2]), int(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    log = Log(state / "log", SystemClock())
    ingest_stream("things", dataset, log, "things", Lake(state / "lake"), lambda done, total: None, commit_records=step)
""")


def ingester(state: Path, step: int) -> subprocess.Popen[str]:
    """A process that ingests once it reads a line."""
    command = [sys.executable, "-c", INGESTER, str(state), DATASET.model_dump_json(), str(step)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_ingest_at_once_and_no_row_is_doubled(tmp_path: Path, log: Log, lake: Lake) -> None:
    fill(log, 3_000)
    processes = [ingester(tmp_path, step) for step in (70, 110)]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert_exactly_once(lake, 3_000)


@pytest.mark.crash
def test_killed_at_any_moment_and_run_again_gives_each_row_once(tmp_path: Path, log: Log, lake: Lake) -> None:
    seed = 20130101
    moments = random.Random(seed)
    end = 0
    for kill in range(8):
        end += 1_500
        fill(log, end)
        process = ingester(tmp_path, moments.choice([40, 90, 400]))
        go(process)
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.communicate(timeout=60)
        table = lake.table("things")
        if table is not None:
            seen = offsets(lake)
            assert len(seen) == len(set(seen)), f"seed {seed}, kill {kill}"
    cut = ingest(log, lake)
    assert_exactly_once(lake, end)
    assert (cut.rows, cut.quarantined) == (end - end // 10, end // 10), f"seed {seed}"


def test_a_table_that_is_replaced_under_an_ingestion_stops_it(log: Log, lake: Lake, tmp_path: Path) -> None:
    fill(log, 30)
    other = DATASET.model_copy(update={"columns": {"id": "int"}})

    def meddle(done: int, total: int) -> None:
        if done == 10:
            ingest(log, lake, other)

    with pytest.raises(Busy, match="another process replaced the table"):
        ingest_stream("things", DATASET, log, "things", lake, meddle, commit_records=10)
    assert ingest(log, lake, other).rows == 27


FILE = Dataset.model_validate({"source": "t.csv", "key": ["id"], "columns": {"id": "int", "size": "float"}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["id,size,extra", *lines]) + "\n")


def file_rows(lake: Lake, cut: Cut) -> list[tuple[int, float | None]]:
    table = read_cut(lake, "t", cut.table_version, FILE)
    return list(zip(table["id"].to_pylist(), table["size"].to_pylist(), strict=True))


def test_a_file_becomes_a_table_that_follows_it(lake: Lake, path: Path) -> None:
    write(path, "1,1.5,x", "2,,x", "oops,3,x")
    first = ingest_file("t", FILE, path, lake, quiet)
    assert (first.rows, first.quarantined, dict(first.offsets), dict(first.ignored)) == (2, 1, {0: 3}, {"extra": 3})
    assert dict(first.reasons) == {"id: not an int": 1}
    assert file_rows(lake, first) == [(1, 1.5), (2, None)]
    assert lake.read("t_quarantine")["raw"].to_pylist() == [b"oops,3,x"]
    arrived = read_cut(lake, "t", first.table_version, FILE)["_arrived_at"].to_pylist()
    assert {round(moment.timestamp() * 1_000_000) for moment in arrived} == {path.stat().st_ctime_ns // 1000}

    again = ingest_file("t", FILE, path, lake, quiet)
    assert (again.table_version, again.digest, again.rows) == (first.table_version, first.digest, first.rows), "unchanged: no commit"

    write(path, "7,7,x")
    second = ingest_file("t", FILE, path, lake, quiet)
    assert second.table_version == first.table_version + 1, "replaced in one commit"
    assert (file_rows(lake, second), second.quarantined, dict(second.reasons)) == ([(7, 7.0)], 0, {})
    assert file_rows(lake, first) == [(1, 1.5), (2, None)], "the old version still reads"


def test_the_digest_of_a_file_is_that_of_its_content(lake: Lake, path: Path) -> None:
    write(path, "1,1,x")
    first = ingest_file("t", FILE, path, lake, quiet)
    write(path, "2,2,x")
    assert ingest_file("t", FILE, path, lake, quiet).digest != first.digest
    write(path, "1,1,x")
    os.utime(path, (0, 0))
    assert ingest_file("t", FILE, path, lake, quiet).digest == first.digest


def test_a_file_that_cannot_be_taken_leaves_the_table_as_it_was(lake: Lake, path: Path) -> None:
    write(path, "1,1,x")
    first = ingest_file("t", FILE, path, lake, quiet)
    path.write_text("id,sice\n1,1\n")
    with pytest.raises(DataError, match="did you mean 'sice'"):
        ingest_file("t", FILE, path, lake, quiet)

    def meddle(done: int, total: int) -> None:
        with path.open("a") as file:
            file.write("9,9,x\n")

    write(path, "2,2,x")
    with pytest.raises(DataError, match="changed while it was read"):
        ingest_file("t", FILE, path, lake, meddle)
    table = lake.table("t")
    assert table is not None
    assert table.version == first.table_version


def test_a_crash_between_the_two_tables_of_a_file_is_made_good(lake: Lake, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, "1,1,x", "bad,1,x")
    first = ingest_file("t", FILE, path, lake, quiet)
    write(path, "2,2,x", "3,3,x", "worse,1,x", "worst,1,x")
    replace = Target.replace

    def only_the_quarantine(target: Target, rows: Any, ends: Mapping[int, int]) -> None:
        if target.table.name == "t":
            raise Interrupted
        replace(target, rows, ends)

    with monkeypatch.context() as patched:
        patched.setattr(Target, "replace", only_the_quarantine)
        with pytest.raises(Interrupted):
            ingest_file("t", FILE, path, lake, quiet)
    assert file_rows(lake, first) == [(1, 1.0)]
    second = ingest_file("t", FILE, path, lake, quiet)
    assert (file_rows(lake, second), second.quarantined) == ([(2, 2.0), (3, 3.0)], 2)
    with monkeypatch.context() as patched:  # and back to the first file, with the same crash
        write(path, "1,1,x", "bad,1,x")
        patched.setattr(Target, "replace", only_the_quarantine)
        with pytest.raises(Interrupted):
            ingest_file("t", FILE, path, lake, quiet)
    write(path, "2,2,x", "3,3,x", "worse,1,x", "worst,1,x")
    third = ingest_file("t", FILE, path, lake, quiet)
    assert (file_rows(lake, third), third.quarantined) == ([(2, 2.0), (3, 3.0)], 2), "a quarantine that went ahead is brought back"


def test_a_process_that_only_ingested_ends_well(tmp_path: Path, path: Path) -> None:
    """Threads of Arrow and Delta must not want the interpreter while it exits: that aborts it, now and then."""
    write(path, "1,1,x", "bad,1,x")
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from bedplate.core.spec import Dataset
        from bedplate.data.ingest import ingest_file
        from bedplate.data.lake import Lake
        path = Path(sys.argv[1])
        ingest_file("t", Dataset.model_validate_json(sys.argv[2]), path, Lake(path.parent / "lake"), lambda done, total: None)
    """)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(path), FILE.model_dump_json()], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_files_of_a_pattern_are_in_the_table_once_each_also_when_one_comes_changes_or_goes(lake: Lake, tmp_path: Path) -> None:
    declared = Dataset.model_validate({"source": "days/*.csv", "columns": {"id": "int"}})
    (tmp_path / "days").mkdir()

    def held(**days: str) -> list[int]:
        for path in (tmp_path / "days").iterdir():
            path.unlink()
        for name, text in days.items():
            (tmp_path / "days" / f"{name}.csv").write_text("id\n" + text)
        cut = ingest_file("days", declared, tmp_path / "days" / "*.csv", lake, quiet)
        return [int(number) for number in read_cut(lake, "days", cut.table_version, declared)["id"].to_pylist()]

    assert held(a="1\n2\n") == [1, 2]
    assert held(a="1\n2\n", b="3\n") == [1, 2, 3]
    before = len(lake.history("days"))
    assert held(a="1\n2\n", b="3\n") == [1, 2, 3]
    assert len(lake.history("days")) == before
    assert held(a="1\n9\n", b="3\n") == [1, 9, 3]
    assert held(b="3\n") == [3]
