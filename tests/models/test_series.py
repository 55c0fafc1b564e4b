"""The series store on real files: replays, restarts, compaction, and kills in the middle of it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.models.series import COMPACT_EVERY, COMPACTED, Point, SeriesStore


def points(*numbers: int, offset: float = 0.0) -> list[Point]:
    return [(number, 100.0 + number, number * 10, {"loss": 1.0 / number + offset}) for number in numbers]


def steps(store: SeriesStore, name: str = "loss") -> list[int]:
    return [int(step) for step in store.read("run-1", name).step]


def test_what_was_appended_is_read_in_the_order_of_steps(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    assert store.append("run-1", 1, "rank-0", [(2, 5.5, 20, {"loss": 0.5, "lr": 1e-3}), (7, 6.5, 10, {"loss": 0.75})]) == 2
    series = store.read("run-1", "loss")
    assert series.step.tolist() == [10, 20]
    assert series.at_s.tolist() == [6.5, 5.5]
    assert series.value.tolist() == [0.75, 0.5]
    assert (series.step.dtype, series.at_s.dtype, series.value.dtype) == (numpy.int64, numpy.float64, numpy.float64)
    assert store.names("run-1") == ("loss", "lr")
    assert store.last("run-1") == {"loss": 0.5, "lr": 1e-3}


def test_an_unknown_run_or_metric_is_empty(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    assert store.names("run-9") == ()
    assert store.last("run-9") == {}
    assert len(store.read("run-9", "loss").step) == 0
    store.compact("run-9")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_numbers_are_kept(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    values = [math.nan, math.inf, -math.inf]
    store.append("run-1", 1, "shim", [(number, 0.0, number, {"loss": value}) for number, value in enumerate(values, 1)])
    store.compact("run-1")
    read = store.read("run-1", "loss").value.tolist()
    assert math.isnan(read[0])
    assert read[1:] == values[1:]


def test_a_replay_cut_elsewhere_adds_nothing(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    assert store.append("run-1", 1, "rank-0", points(1, 2, 5)) == 3
    assert store.append("run-1", 1, "rank-0", points(2, 5)) == 0
    assert store.append("run-1", 1, "rank-0", points(5, 6, 9)) == 2
    assert SeriesStore(tmp_path).append("run-1", 1, "rank-0", points(1, 2, 5, 6, 9)) == 0
    assert steps(store) == [10, 20, 50, 60, 90]


def test_writers_and_attempts_are_numbered_apart(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.append("run-1", 1, "rank-0", points(1, 2))
    assert store.append("run-1", 1, "rank-1", [(1, 0.0, 5, {"other": 1.0})]) == 1
    assert store.append("run-1", 2, "rank-0", [(1, 0.0, 30, {"loss": 1.0})]) == 1
    assert steps(store) == [10, 20, 30]
    assert store.names("run-1") == ("loss", "other")


def test_a_later_attempt_wins_where_it_overlaps(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.append("run-1", 1, "rank-0", [(n, float(n), n, {"loss": 1.0}) for n in (1, 2, 3, 4)])
    store.append("run-1", 2, "rank-0", [(n, 50.0 + n, n + 2, {"loss": 2.0}) for n in (1, 2, 3)])
    assert store.read("run-1", "loss").step.tolist() == [1, 2, 3, 4, 5]
    assert store.read("run-1", "loss").value.tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_points_of_one_attempt_at_one_step_all_stay(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.append("run-1", 1, "shim", [(n, float(n), 0, {"loss": float(n)}) for n in (1, 2, 3)])
    assert store.read("run-1", "loss").value.tolist() == [1.0, 2.0, 3.0]
    assert store.last("run-1") == {"loss": 3.0}


def test_compaction_changes_no_answer_and_still_knows_what_is_stored(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    for number in range(1, 20):
        store.append("run-1", 1, "rank-0", points(number))
    store.append("run-1", 2, "rank-0", points(15, offset=1.0))
    before = store.read("run-1", "loss")
    store.compact("run-1")
    store.compact("run-1")
    assert [path.name for path in (tmp_path / "run-1").iterdir()] == [COMPACTED]
    assert store.append("run-1", 1, "rank-0", points(18, 19)) == 0
    for one, other in zip(before, store.read("run-1", "loss"), strict=True):
        assert one.tolist() == other.tolist()
    assert store.append("run-1", 2, "rank-0", points(16, offset=1.0)) == 1
    store.compact("run-1")
    assert store.read("run-1", "loss").value[15] == 1.0 / 16 + 1.0


def test_chunks_that_a_killed_compaction_left_are_not_read_twice(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.append("run-1", 1, "rank-0", points(1, 2))
    chunk = next((tmp_path / "run-1").iterdir())
    content = chunk.read_bytes()
    store.compact("run-1")
    chunk.write_bytes(content)
    assert steps(store) == [10, 20]
    store.append("run-1", 1, "rank-0", points(3))
    store.compact("run-1")
    assert steps(store) == [10, 20, 30]


def test_many_flushes_are_folded_on_the_way(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    for number in range(1, COMPACT_EVERY + 10):
        store.append("run-1", 1, "rank-0", points(number))
    assert len(list((tmp_path / "run-1").iterdir())) < 20
    assert len(steps(store)) == COMPACT_EVERY + 9


def test_a_file_is_plain_parquet(tmp_path: Path) -> None:
    SeriesStore(tmp_path).append("run-1", 3, "rank-0", points(4))
    table = pyarrow.parquet.read_table(next((tmp_path / "run-1").iterdir()), partitioning=None)
    assert table.to_pylist() == [{"token": 3, "writer": "rank-0", "number": 4, "at_s": 104.0, "step": 40, "name": "loss", "value": 0.25}]


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".hidden", "x\0y"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    store = SeriesStore(tmp_path / "series")
    with pytest.raises(DataError, match="name"):
        store.append(name, 1, "rank-0", points(1))
    with pytest.raises(DataError, match="name"):
        store.append("run-1", 1, name, points(1))
    with pytest.raises(DataError, match="name"):
        store.read(name, "loss")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6),
    compactions=st.sets(st.integers(0, 6)),
)
def test_any_replay_of_a_journal_stores_each_entry_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: Sequence[tuple[int, int]], compactions: set[int]
) -> None:
    store = SeriesStore(tmp_path_factory.mktemp("series"))
    journal = points(*range(1, 13))
    reached = 0
    for index, (begin, end) in enumerate(cuts):
        begin, end = min(begin, reached), max(end, begin)  # a reader may go back, but it skips nothing
        store.append("run-1", 1, "rank-0", journal[begin:end])
        reached = max(reached, end)
        if index in compactions:
            store.compact("run-1")
    assert steps(store) == [number * 10 for number in range(1, reached + 1)]


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_instant_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from bedplate.models.series import SeriesStore
        store = SeriesStore(Path(sys.argv[1]))
        for number in range(1, 100000):
            store.append("run-1", 1, "rank-0", [(number, 0.0, number, {"loss": 1.0})])
            print(number, flush=True)
            if number % 3 == 0:
                store.compact("run-1")
    """)
    process = subprocess.Popen([sys.executable, "-c", script, os.fspath(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        for _ in range(20 + 7 * seed):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.stdout)])
    store = SeriesStore(tmp_path)
    stored = store.read("run-1", "loss").step.tolist()
    assert stored == list(range(1, len(stored) + 1))
    assert len(stored) in (told, told + 1)
    store.compact("run-1")
    assert store.read("run-1", "loss").step.tolist() == stored


# -- columns, and files that runs share --------------------------------------------------------------------------------------------


def test_columns_are_the_same_points(tmp_path: Path) -> None:
    by_entry, by_column = SeriesStore(tmp_path / "entries"), SeriesStore(tmp_path / "columns")
    points = [(n, n / 10, n % 7, {"loss": n * 0.5}) for n in range(1, 50)]
    by_entry.append("r", 1, "rank-0", points)
    numbers, at_s, steps, values = zip(*((n, at, step, each["loss"]) for n, at, step, each in points), strict=True)
    assert by_column.append_columns("r", 1, "rank-0", numbers[0], "loss", at_s, steps, values) == 49
    for ours, theirs in zip(by_column.read("r", "loss"), by_entry.read("r", "loss"), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert by_column.last("r") == by_entry.last("r")


def test_columns_that_were_stored_before_are_left_out(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    names = ["a", "b", "a", "b"]
    assert store.append_columns("r", 1, "import", 1, names, [0.0] * 4, [1, 1, 2, 2], [1.0, 2.0, 3.0, 4.0]) == 4
    assert store.append_columns("r", 1, "import", 3, [*names[2:], "a"], [0.0] * 3, [2, 2, 3], [3.0, 4.0, 5.0]) == 1
    assert store.append_columns("r", 1, "import", 1, "a", [0.0], [1], [1.0]) == 0
    assert (store.read("r", "a").value.tolist(), store.read("r", "b").value.tolist()) == ([1.0, 3.0, 5.0], [2.0, 4.0])
    store.compact("r")
    assert store.append_columns("r", 1, "import", 1, names, [0.0] * 4, [1, 1, 2, 2], [1.0, 2.0, 3.0, 4.0]) == 0
    assert store.read("r", "a").step.tolist() == [1, 2, 3]


def test_columns_of_different_lengths_are_refused(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    for name, at_s, step, value in (("a", [0.0], [1, 2], [1.0]), (["a"], [0.0, 1.0], [1, 2], [1.0, 2.0])):
        with pytest.raises(DataError, match="different lengths"):
            store.append_columns("r", 1, "import", 1, name, at_s, step, value)
    assert list(tmp_path.iterdir()) == []


def test_runs_share_a_file_and_have_their_own_points(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    points = {
        f"run-{number}": {"loss": ([1000, 2000], [number, number + 1], [number * 1.0, math.nan]), "acc": ([3000], [-1], [math.inf])}
        for number in range(30)
    }
    store.append_shared(1, points)
    store.append_shared(2, {"run-3": {"loss": ([5000], [9], [7.0])}})
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert store.names("run-3") == ("acc", "loss")
    found = store.read("run-3", "loss")
    assert (found.step.tolist(), found.at_s.tolist()) == ([3, 4, 9], [1.0, 2.0, 5.0])
    assert (found.value[0], math.isnan(found.value[1]), found.value[2]) == (3.0, True, 7.0)
    assert store.read("run-3", "acc").value.tolist() == [math.inf]
    assert store.read("run-99", "loss").step.tolist() == []
    store.append_shared(2, {"run-3": {"loss": ([5000], [9], [7.0])}})
    assert len(store.read("run-3", "loss").step) == 3, "the same number again replaces its file"
    every = list(store.shared_latest())
    assert len(every) == 30 * 3 + 1
    assert ("run-3", "loss", 7.0, 5000, 9) in every


def test_a_run_may_be_in_both_places(tmp_path: Path) -> None:
    store = SeriesStore(tmp_path)
    store.append("r", 1, "rank-0", [(1, 1.0, 1, {"loss": 1.0}), (2, 3.0, 3, {"loss": 3.0})])
    store.append_shared(1, {"r": {"loss": ([2000], [2], [2.0]), "late": ([1], [0], [0.5])}})
    assert store.read("r", "loss").step.tolist() == [1, 2, 3]
    assert store.names("r") == ("late", "loss")
    assert store.last("r") == {"loss": 3.0}


def test_a_run_that_cannot_be_a_folder_is_refused_in_a_shared_file_too(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        SeriesStore(tmp_path).append_shared(1, {"../x": {"loss": ([1], [1], [1.0])}})
    assert list(tmp_path.rglob("*.parquet")) == []
