"""Tables made of others: what a query sees, incremental and full, when rows were known, and memory that is not enough."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset
from bedplate.data.cut import Cut, read_cut
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.query import parsed
from bedplate.data.streams.log import Log
from bedplate.data.target import Target
from bedplate.data.transform import Part, Place, run_query, store_table

SOLD = Dataset.model_validate(
    {
        "source": "log://sold",
        "known_at": "day",
        "columns": {"shop": "string", "amount": "float", "day": "timestamp"},
        "derive": {"cents": "round(amount * 100)::BIGINT"},
    }
)
ROWS = "SELECT shop, cents, day FROM sold WHERE amount >= 1"
SUMS = "SELECT shop, sum(cents) AS cents, count(*) AS sales FROM sold GROUP BY shop"


class World:
    """A stream, its table, and what is made of it."""

    def __init__(self, folder: Path, partitions: int = 1) -> None:
        self.folder, self.lake, self.clock = folder, Lake(folder / "lake"), SimClock(2e9)
        self.log = Log(folder / "log", self.clock, partitions)

    def sell(self, *sales: tuple[str, float], partition: int = 0) -> None:
        first = self.log.next_sequence("p")
        values = [json.dumps({"shop": shop, "amount": amount, "day": "2026-01-01"}).encode() for shop, amount in sales]
        self.log.append(values, producer="p", sequence=first, partition=partition)
        self.clock.sleep(10)

    def part(self) -> Part:
        cut = ingest_stream("sold", SOLD, self.log, "sold", self.lake, lambda *_: None)
        return Part("sold", SOLD, cut.table_version, cut.digest, cut.offsets)

    def made(self, sql: str, name: str = "made", part: Part | None = None, **declared: Any) -> Cut:
        dataset = Dataset.model_validate({"sql": sql, **declared})
        place = Place(self.lake, self.folder / "scratch")
        return run_query(name, dataset, parsed(sql, "sql"), [part or self.part()], place, lambda *_: None)

    def rows(self, cut: Cut, sql: str, **declared: Any) -> pa.Table:
        return read_cut(self.lake, cut.table, cut.table_version, Dataset.model_validate({"sql": sql, **declared}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_filter_reads_only_what_came_since_and_its_rows_keep_their_places(world: World) -> None:
    world.sell(("a", 1.5), ("b", 0.5), ("a", 2.0))
    first = world.made(ROWS)
    table = world.rows(first, ROWS)
    assert table.select(["shop", "cents", "_offset"]).to_pylist() == [
        {"shop": "a", "cents": 150, "_offset": 0},
        {"shop": "a", "cents": 200, "_offset": 2},
    ]
    assert first.offsets == {0: 3}
    assert world.made(ROWS).table_version == first.table_version, "nothing came, so nothing is committed"
    world.sell(("c", 9.0))
    second = world.made(ROWS)
    assert world.lake.history("made")[0].rows == 1, "one row was added, none was written again"
    assert (second.rows, second.digest != first.digest) == (3, True)
    assert world.rows(second, ROWS)["_known_at"].to_pylist()[-1].timestamp() > table["_known_at"].to_pylist()[0].timestamp()


def test_sums_are_replaced_as_a_whole_sorted_by_the_key_and_known_with_the_last_row(world: World) -> None:
    world.sell(("b", 1.0), ("a", 2.0))
    world.sell(("a", 3.0))
    cut = world.made(SUMS, key=["shop"])
    table = world.rows(cut, SUMS, key=["shop"])
    assert table.select(["shop", "cents", "sales", "_offset"]).to_pylist() == [
        {"shop": "a", "cents": 500, "sales": 2, "_offset": 0},
        {"shop": "b", "cents": 100, "sales": 1, "_offset": 1},
    ]
    newest = max(read_cut(world.lake, "sold", world.part().version, SOLD)["_known_at"].to_pylist())
    assert set(table["_known_at"].to_pylist()) == {newest}
    own = "SELECT shop, sum(cents) AS cents, max(_known_at) AS _known_at FROM sold GROUP BY shop"
    known = world.rows(world.made(own, "own", key=["shop"]), own, key=["shop"])["_known_at"].to_pylist()
    assert known[0] > known[1], "b was sold first, and never again"
    assert world.made(SUMS, key=["shop"]).table_version == cut.table_version
    world.sell(("b", 4.0))
    assert world.rows(world.made(SUMS, key=["shop"]), SUMS, key=["shop"])["cents"].to_pylist() == [500, 500]


def test_a_table_that_was_begun_anew_begins_its_results_anew(world: World, tmp_path: Path) -> None:
    world.sell(("a", 1.0), ("a", 2.0))
    assert world.made(ROWS).rows == 2
    world.log = Log(tmp_path / "another", world.clock)
    world.sell(("b", 3.0))
    cut = world.made(ROWS)
    assert world.rows(cut, ROWS)["shop"].to_pylist() == ["b"]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 99, width=16)), min_size=1, max_size=6)),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_comes_when_step_by_step_is_as_at_once(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, list[tuple[str, float]]]]
) -> None:
    sql = "SELECT *, cents % 7 AS rest FROM sold WHERE cents > 500 OR shop = 'a'"
    steps, whole = (World(tmp_path_factory.mktemp("world"), partitions=2) for _ in range(2))
    for partition, batch in batches:
        for world in (steps, whole):
            world.sell(*batch, partition=partition)
        done = steps.made(sql)
    expected = whole.made(sql)
    assert steps.rows(done, sql).equals(whole.rows(expected, sql))
    assert done.offsets == expected.offsets
    with_all = read_cut(steps.lake, "sold", steps.part().version, SOLD)
    kept = [row for row in with_all.to_pylist() if row["cents"] > 500 or row["shop"] == "a"]
    assert [row["rest"] for row in steps.rows(done, sql).to_pylist()] == [row["cents"] % 7 for row in kept]


def test_columns_and_keys_are_what_was_declared(world: World) -> None:
    world.sell(("a", 1.0), ("b", 2.0))
    declared = {"columns": {"shop": "string", "amount": "int"}}
    sql = "SELECT shop, amount::DECIMAL(9, 2) AS amount, day FROM sold"
    assert world.rows(world.made(sql, **declared), sql, **declared)["amount"].to_pylist() == [1, 2]
    with pytest.raises(DataError, match=r"lacks declared columns \(got 'price'\)"):
        world.made(sql, "x", columns={"price": "float"})
    with pytest.raises(DataError, match="the key of dataset 'x' has nulls"):
        world.made("SELECT nullif(shop, 'a') AS shop FROM sold", "x", key=["shop"])
    with pytest.raises(DataError, match="column 'both' of dataset 'x' has type list"):
        world.made("SELECT [amount] AS both FROM sold", "x")
    with pytest.raises(DataError, match=r"Binder Error.*shopp.*did you mean .shop."):
        world.made("SELECT shopp FROM sold", "x")
    with pytest.raises(DataError, match="sql of dataset 'x': Conversion Error"):
        world.made("SELECT shop::INT AS n FROM sold", "x")
    assert world.lake.table("x") is None, "what failed left nothing"


class Interrupted(Exception):
    """A kill, as an exception in the place where it strikes."""


@pytest.mark.parametrize("sql", [ROWS, SUMS])
def test_killed_before_or_after_the_commit_it_is_made_once(world: World, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    world.sell(("a", 1.0), ("b", 2.0))
    world.made(sql)
    world.sell(("a", 3.0))
    part = world.part()
    for after in (False, True):
        for name in ("append", "replace"):
            honest = getattr(Target, name)

            def killed(target: Target, *given: object, honest: Any = honest, after: bool = after) -> None:
                if after:
                    honest(target, *given)
                raise Interrupted

            monkeypatch.setattr(Target, name, killed)
        with pytest.raises(Interrupted):
            world.made(sql, part=part)
        monkeypatch.undo()
    before = world.lake.table("made")
    assert before is not None
    cut = world.made(sql, part=part)
    assert (cut.table_version, cut.rows) == (before.version, 3 if sql == ROWS else 2)
    assert sorted(world.lake.read("made")["cents"].to_pylist()) == ([100, 200, 300] if sql == ROWS else [200, 400])


def test_a_function_gives_a_table(world: World) -> None:
    world.sell(("a", 1.0), ("b", 2.0))
    part = world.part()
    dataset = Dataset.model_validate({"python": "f.py:f", "reads": ["sold"], "key": ["shop"]})
    made = pa.table({"shop": ["b", "a"], "n": pa.array([1, 2], pa.int32())})
    place = Place(world.lake, world.folder / "scratch")
    cut = store_table("made", dataset, made, "code-1", [part], place)
    table = read_cut(world.lake, "made", cut.table_version, dataset)
    assert table.select(["shop", "n"]).to_pydict() == {"shop": ["a", "b"], "n": [2, 1]}
    newest = max(read_cut(world.lake, "sold", part.version, SOLD)["_known_at"].to_pylist())
    assert set(table["_known_at"].to_pylist()) == {newest}
    assert store_table("made", dataset, made, "code-1", [part], place).table_version == cut.table_version
    assert store_table("made", dataset, made.slice(0, 1), "code-2", [part], place).rows == 1


def test_what_does_not_fit_into_memory_goes_on_on_disk(tmp_path: Path) -> None:
    """A million rows of 32 characters, sorted, in 48 MB: DuckDB's own memory is bounded, and it spills below the scratch folder."""
    script = """
        import sys
        from pathlib import Path
        import pyarrow as pa
        from bedplate.core.spec import Dataset
        from bedplate.data.lake import Lake
        from bedplate.data.query import parsed
        from bedplate.data.transform import Part, Place, run_query, store_table
        folder = Path(sys.argv[1])
        lake, numbers = Lake(folder / "lake"), Dataset.model_validate({"python": "f.py:f", "reads": ["x"]})
        rows = pa.table({"n": pa.array(range(2000), pa.int64())})
        cut = store_table("numbers", numbers, rows, "1", [], Place(lake, folder / "scratch"))
        sql = "SELECT md5((a.n * 2500 + b.n)::VARCHAR) AS h FROM numbers a, numbers b WHERE b.n < 500"
        part = Part("numbers", numbers, cut.table_version, cut.digest, cut.offsets)
        made = run_query("made", Dataset.model_validate({"sql": sql}), parsed(sql, "sql"), [part],
            Place(lake, folder / "scratch", 48 << 20),
            lambda *_: print(
            "spilled" if any((folder / "scratch" / "spill").iterdir()) else "-"))
        print(made.rows, lake.read("made", columns=["h"])["h"].is_valid().to_numpy().all())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["1000000", "True"]
    assert "spilled" in done.stdout, "the limit was reached"
