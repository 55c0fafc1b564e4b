"""The lake: marks in the same commit as the rows, conflicts, races of real processes, versions, and other readers of its tables."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from bedplate.core.errors import DataError, NotFound
from bedplate.data.lake import COMPACT_FILES, Lake, Table, Write

SCHEMA = pa.schema([("n", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])


def rows(*numbers: int) -> pa.Table:
    return pa.table({"n": numbers, "at": [0] * len(numbers)}, schema=SCHEMA)


def add(table: Table, number: int, mark: str = "source") -> bool:
    """Append row `number` if the table has not recorded it."""
    return table.write(lambda: Write(rows(number), {mark: number}, {0: number}) if (table.recorded(mark) or 0) < number else None)


def numbers(lake: Lake, version: int | None = None) -> list[int]:
    return sorted(lake.read("t", version)["n"].to_pylist())


def test_what_is_recorded_is_in_the_commit_of_the_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.table("t") is None
    table = lake.create("t", SCHEMA)
    assert (table.recorded("source"), table.rows, table.version) == (None, 0, 0)
    assert add(table, 1)
    assert add(table, 2)
    assert not add(table, 2), "what is recorded is not written again"
    again = lake.table("t")
    assert again is not None
    assert (again.recorded("source"), again.rows, again.version) == (2, 2, 2)
    assert again.schema == SCHEMA


def test_a_commit_without_rows_still_records(tmp_path: Path) -> None:
    table = Lake(tmp_path).create("t", SCHEMA)
    assert table.write(lambda: Write(SCHEMA.empty_table(), {"source": 7}))
    assert (table.recorded("source"), table.rows) == (7, 0)


def test_a_stale_handle_looks_again_before_it_writes(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first, stale = lake.create("t", SCHEMA), lake.create("t", SCHEMA)
    add(first, 1)
    assert stale.recorded("source") is None
    assert not add(stale, 1), "the conflict made it reload and compare"
    assert add(stale, 2)
    assert add(first, 3, mark="other source"), "a commit of another source is no reason to give up"
    assert numbers(lake) == [1, 2, 3]


def test_replacing_takes_rows_and_schema_and_leaves_the_past_readable(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    table = lake.create("t", SCHEMA)
    add(table, 1)
    other = pa.table({"text": ["a", "b"]})
    table.write(lambda: Write(pa.RecordBatchReader.from_batches(other.schema, other.to_batches()), {"source": 9}, {}, replace=True))
    assert lake.read("t").to_pydict() == {"text": ["a", "b"]}
    assert table.schema == other.schema
    assert numbers(lake, 1) == [1]


def test_versions_columns_and_filters(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    table = lake.create("t", SCHEMA)
    for number in range(1, 5):
        add(table, number)
    assert [numbers(lake, version) for version in range(5)] == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert lake.read("t", columns=["n"], filter=pc.field("n") > 3).to_pydict() == {"n": [4]}
    with pytest.raises(NotFound, match=r"no such version.*got 5.*0 to 4"):
        lake.read("t", 5)
    with pytest.raises(NotFound, match=r"no such table.*did you mean 't'"):
        lake.read("tt")
    with pytest.raises(DataError, match=r"no such column.*got 'm'"):
        lake.read("t", columns=["m"])


@pytest.mark.parametrize("name", ["", "../out", "a/b", "A", ".hidden", "a b", "-x"])
def test_names_cannot_lead_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="not a table's name"):
        Lake(tmp_path).table(name)


def test_history_tells_rows_and_offsets_newest_first(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    table = lake.create("t", SCHEMA)
    add(table, 3)
    history = lake.history("t")
    assert [(commit.version, commit.operation, commit.rows, dict(commit.offsets)) for commit in history] == [
        (1, "WRITE", 1, {0: 3}),
        (0, "CREATE TABLE", 0, {}),
    ]
    assert history[0].at_s >= history[1].at_s > 1e9
    with pytest.raises(NotFound, match="no such table"):
        lake.history("x")


def test_many_small_files_are_merged_and_nothing_else_changes(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    table = lake.create("t", SCHEMA)
    assert not table.compact()
    for number in range(1, COMPACT_FILES + 1):
        add(table, number)
    stale = lake.create("t", SCHEMA)
    assert table.compact()
    assert not stale.compact() or stale.rows == COMPACT_FILES, "merging from an older version would double the rows"
    expected = list(range(1, COMPACT_FILES + 1))
    assert numbers(lake) == expected
    assert table.recorded("source") == COMPACT_FILES
    assert numbers(lake, 10) == expected[:10], "merging and checkpoints keep every version readable"
    assert lake.history("t")[0].operation == "OPTIMIZE"
    for number in range(COMPACT_FILES + 1, 120):
        add(table, number)
    assert list((tmp_path / "t" / "_delta_log").glob("*.checkpoint.parquet"))
    assert (numbers(lake, 3), table.recorded("source")) == ([1, 2, 3], 119)


def test_other_readers_see_the_same_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    table = lake.create("t", SCHEMA)
    add(table, 5)
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().to_pydict()["n"] == [5]
    connection = duckdb.connect()
    connection.register("t", lake.dataset("t"))
    assert connection.sql("SELECT sum(n) FROM t WHERE n > 1").fetchall() == [(5,)]
    connection.close()


def test_the_tables_are_listed(tmp_path: Path) -> None:
    assert Lake(tmp_path / "nowhere").names() == []
    lake = Lake(tmp_path)
    lake.create("b", SCHEMA)
    lake.create("a_quarantine", SCHEMA)
    (tmp_path / "no table").mkdir()
    assert lake.names() == ["a_quarantine", "b"]


WORKER = textwrap.dedent("""
    import sys
    from pathlib import Path
    import pyarrow as pa
    from bedplate.data.lake import Lake, Write
    root, last, compact = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "compact"
    schema = pa.schema([("n", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])
    sys.stdin.readline()
    table = Lake(root).create("t", schema)
    def next_row():
        number = (table.recorded("source") or 0) + 1
        return Write(pa.table({"n": [number], "at": [0]}, schema=schema), {"source": number}) if number <= last else None
    while table.write(next_row):
        if compact:
            table.compact(8)
""")


def test_processes_that_create_append_and_merge_at_once_write_each_row_once(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), "60", role], stdin=subprocess.PIPE, text=True)
        for role in ("compact", "compact", "append")
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    assert numbers(Lake(tmp_path)) == list(range(1, 61))


def test_a_held_name_keeps_others_waiting_until_its_holder_ends(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    imports = "import sys; from pathlib import Path; from bedplate.data.lake import Lake"
    code = f"{imports}\nwith Lake(Path(sys.argv[1])).held('t'): print('in', flush=True)"
    with lake.held("t"), lake.held("other"):
        waiting = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
    assert waiting.communicate(timeout=60)[0] == "in\n"
