"""The journal of points: what is acknowledged survives a kill at any instant, and is folded once."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import Busy
from bedplate.models.series import SeriesStore
from bedplate.models.tracking.points import PointJournal, latest_of, merged, read_segments, stored_segments, unfolded


def journal(folder: Path) -> PointJournal:
    return PointJournal(folder / "points", folder / "series")


WRITER = """
import sys
from pathlib import Path
from bedplate.models.tracking.points import PointJournal
folder = Path(sys.argv[1])
points = PointJournal(folder / "points", folder / "series")
step = 0
while True:
    for _ in range(7):
        points.add("r1", [("m", step * 0.5, 1000 + step, step)])
        step += 1
    points.write()
    print(step, flush=True)  # acknowledged
    if step % 70 == 0:
        points.rotate()
        points.fold()
"""


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged = 0
    for kill in range(3):
        folder = tmp_path / str(kill)
        process = subprocess.Popen([sys.executable, "-c", WRITER, os.fspath(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        deadline = time.monotonic() + 30
        acknowledged = 0
        while acknowledged < 150 * (kill + 1) and time.monotonic() < deadline:
            acknowledged = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=20)
        acknowledged = max([acknowledged, *(int(line) for line in rest.split("\n")[:-1])])
        again = journal(folder)
        steps = [step for _, step, _ in again.history("r1", "m")]
        assert steps[:acknowledged] == list(range(acknowledged)), kill
        assert len(steps) == len(set(steps))
        again.close()
    assert acknowledged >= 450


def test_a_torn_line_is_left_out_and_what_follows_is_whole(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.add("r", [("m", 1.0, 1, 1)])
    first.write()
    [segment] = sorted((tmp_path / "points").glob("*.jsonl"))
    with segment.open("ab") as file:
        file.write(b'["r",[["m",2.0,')
    assert list(read_segments(tmp_path / "points")) == [("r", [("m", 1.0, 1, 1)])]
    first.close()


def test_one_process_writes(tmp_path: Path) -> None:
    first = journal(tmp_path)
    with pytest.raises(Busy):
        journal(tmp_path)
    first.close()
    journal(tmp_path).close()


def test_a_clean_end_folds_all_and_leaves_no_segment(tmp_path: Path) -> None:
    points = journal(tmp_path)
    for run in ("b", "a"):
        points.add(run, [("m", math.nan, 5, 2), ("m", 1.0, 4, 1), ("k", -math.inf, 1, 0)])
    points.write()
    points.close()
    assert list((tmp_path / "points").glob("*.jsonl")) == []
    store = SeriesStore(tmp_path / "series")
    assert (store.names("a"), store.names("b"), store.names("c")) == (("k", "m"), ("k", "m"), ())
    again = journal(tmp_path)
    assert again.recovered == []
    found = again.history("a", "m")
    assert [(at_ms, step) for at_ms, step, _ in found] == [(4, 1), (5, 2)]
    assert math.isnan(found[1][2])
    assert sorted((run, key, step) for run, key, _, _, step in again.stored_latest() if key == "k") == [("a", "k", 0), ("b", "k", 0)]
    again.close()


def test_a_kill_between_the_fold_and_the_removal_doubles_nothing(tmp_path: Path) -> None:
    points = journal(tmp_path)
    points.add("r", [("m", 1.0, 1, 1)])
    points.write()
    [segment] = sorted((tmp_path / "points").glob("*.jsonl"))
    saved = segment.read_bytes()
    points.rotate()
    points.fold()
    segment.write_bytes(saved)  # as if the kill had come before the removal
    assert len(stored_segments(tmp_path / "series")) == 1
    points.close()
    segment.write_bytes(saved)
    again = journal(tmp_path)
    assert (again.recovered, again.history("r", "m")) == ([], [(1, 1, 1.0)])
    again.add("r", [("m", 2.0, 2, 2)])
    again.write()
    again.close()
    assert [step for _, step, _ in merged(tmp_path / "series", "r", "m", [])] == [1, 2]


def test_while_it_is_folded_every_point_is_seen_once(tmp_path: Path) -> None:
    points = journal(tmp_path)
    points.add("r", [("m", 1.0, 1, 1)])
    points.write()
    points.rotate()
    points.add("r", [("m", 2.0, 2, 2), ("m", 1.0, 1, 1)])
    points.write()
    expected = [(1, 1, 1.0), (2, 2, 2.0)]
    assert (points.folding, points.history("r", "m"), points.names("r")) == (True, expected, {"m"})
    points.fold()
    assert (points.folding, points.history("r", "m")) == (False, expected)
    column = unfolded(tmp_path / "points")["r"]["m"]
    assert merged(tmp_path / "series", "r", "m", [column]) == expected
    points.close()


def test_what_a_killed_server_left_is_recovered(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.add("r", [("m", 1.0, 7, 3)])
    first.write()
    os.close(first._lock)  # its process is gone
    again = journal(tmp_path)
    assert latest_of(again.recovered) == [("r", "m", 1.0, 7, 3)]
    again.close()
    assert merged(tmp_path / "series", "r", "m", []) == [(7, 3, 1.0)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["m", "n"]), st.floats(), st.integers(0, 9), st.integers(-5, 5)), max_size=12
    ),
    st.integers(0, 12),
)
def test_the_history_is_the_set_of_points_wherever_it_is_folded(
    tmp_path_factory: pytest.TempPathFactory, points: list[tuple[str, str, float, int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("points")
    made = journal(folder)
    for place, (run, *point) in enumerate(points):
        if place == cut:
            made.write()
            made.rotate()
            made.fold()
        made.add(run, [tuple(point)])
    made.write()
    for run in ("a", "b"):
        for key in ("m", "n"):
            expected = {(at_ms, step, repr(value)) for each, name, value, at_ms, step in points if (each, name) == (run, key)}
            assert {(at_ms, step, repr(value)) for at_ms, step, value in made.history(run, key)} >= {
                each for each in expected if each[2] not in ("0.0", "-0.0")
            }
            assert len(made.history(run, key)) <= len(expected)
    made.close()
