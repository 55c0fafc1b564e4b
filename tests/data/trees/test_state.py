"""Notes about hashed files: good while the file is what it was, absent for files that changed only just now."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.data.trees.state import CLOCK_TICK_NS, Stamp, State, stamp

OLD = Stamp(1, 1_000, 3)


def test_notes_outlive_the_process_and_are_found_by_tree(tmp_path: Path) -> None:
    with closing(State(tmp_path / "n" / "notes.db")) as state:
        state.note(
            {"a/x": (OLD, "1"), "a/y/z": (OLD, "2"), "a": (OLD, "3"), "ab": (OLD, "4"), "a.x": (OLD, "5")}, {"m": OLD}, time.time_ns()
        )
    with closing(State(tmp_path / "n" / "notes.db")) as state:
        assert state.seen("a") == {"a/x": (OLD, "1"), "a/y/z": (OLD, "2"), "a": (OLD, "3")}
        assert state.kept(["m", "other"]) == {"m": OLD}
        state.note({}, {f"{number:04}": OLD for number in range(600)}, time.time_ns())
        assert len(state.kept({f"{number:04}" for number in range(550)})) == 550


def test_a_file_that_changed_only_just_now_is_not_trusted(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    young, old = Stamp(1, now_ns - CLOCK_TICK_NS // 2, 3), Stamp(1, now_ns - 2 * CLOCK_TICK_NS, 3)
    with closing(State(tmp_path / "notes.db")) as state:
        state.note({"young": (young, "1"), "old": (old, "2")}, {"young": young}, now_ns)
        assert (state.seen("young"), state.kept(["young"])) == ({}, {})
        assert state.seen("old") == {"old": (old, "2")}


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"1")
    first = stamp(file.stat())
    os.utime(file, ns=(0, 5))
    assert stamp(file.stat()) == first._replace(mtime_ns=5)
    assert first.size_bytes == 1


def test_damaged_notes_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match=r"notes about hashed files are damaged.*delete the file"):
        State(tmp_path / "notes.db")
