"""A target: what it holds, how far it was read, and what happens when two disagree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from bedplate.core.errors import Busy
from bedplate.data.lake import Lake
from bedplate.data.target import Target

SCHEMA = pa.schema([("_offset", pa.int64())])


def rows(start: int, end: int) -> pa.Table:
    return pa.table({"_offset": range(start, end)}, schema=SCHEMA)


def target(lake: Lake, source: str) -> Target:
    return Target(lake.create("t", SCHEMA), source, "topic")


def offsets(lake: Lake) -> list[int]:
    return sorted(lake.read("t")["_offset"].to_pylist())


def test_a_target_is_begun_once_and_goes_on_where_it_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = target(lake, "A")
    assert (first.current, first.offset(0)) == (False, 0)
    first.replace(lambda: rows(0, 2), {0: 2})
    first.append(lambda starts: rows(starts[0], 5), {0: 5})
    again = target(lake, "A")
    assert (again.current, again.offset(0), again.offset(1)) == (True, 5, 0)
    version = again.table.version
    again.replace(lambda: rows(0, 2), {0: 2})
    again.append(lambda starts: rows(starts[0], 5), {0: 5})
    assert again.table.version == version, "nothing changed, so nothing was committed"
    assert offsets(lake) == [0, 1, 2, 3, 4]


def test_overlapping_batches_are_cut_at_what_is_recorded(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    one, two = target(lake, "A"), target(lake, "A")
    one.replace(lambda: rows(0, 0), {0: 0})
    two.replace(lambda: rows(0, 0), {0: 0})
    one.append(lambda starts: rows(starts[0], 6), {0: 6})
    two.append(lambda starts: rows(starts[0], 9), {0: 9})
    one.append(lambda starts: rows(starts[0], 8), {0: 8})
    assert offsets(lake) == list(range(9))


def test_several_partitions_come_in_one_commit_each_cut_at_what_it_has(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    one, two = target(lake, "A"), target(lake, "A")
    one.replace(lambda: rows(0, 0), {0: 0})
    two.replace(lambda: rows(0, 0), {0: 0})
    seen: list[dict[int, int]] = []

    def from_(starts: Mapping[int, int]) -> pa.Table:
        seen.append(dict(starts))
        return rows(sum(starts.values()), 9)

    one.append(from_, {0: 4, 1: 5})
    before = one.table.version
    two.append(from_, {0: 4, 1: 3})
    two.table.reload()
    assert two.table.version == before, "what another has written already is not written again"
    two.append(from_, {0: 6, 1: 5})
    assert seen[-1] == {0: 4, 1: 5}
    assert ((two.offset(0), two.offset(1)), two.table.version) == ((6, 5), before + 1)


def test_partitions_are_recorded_apart(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    one = target(lake, "A")
    one.replace(lambda: rows(0, 1), {0: 1})
    one.append(lambda starts: rows(starts[1], 3), {1: 3})
    assert (one.offset(0), one.offset(1)) == (1, 3)


def test_another_source_takes_the_table_and_the_first_one_begins_anew_when_it_returns(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    target(lake, "A").replace(lambda: rows(0, 3), {0: 3})
    target(lake, "B").replace(lambda: rows(10, 12), {0: 2})
    assert offsets(lake) == [10, 11]
    returned = target(lake, "A")
    assert (returned.current, returned.offset(0)) == (False, 0), "what A had recorded was in another epoch"
    returned.replace(lambda: rows(0, 1), {0: 1})
    assert (returned.current, returned.offset(0), offsets(lake)) == (True, 1, [0])


def test_a_writer_whose_table_was_taken_is_told(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = target(lake, "A")
    first.replace(lambda: rows(0, 1), {0: 1})
    target(lake, "B").replace(lambda: rows(0, 1), {0: 1})
    with pytest.raises(Busy, match="another process replaced the table"):
        first.append(lambda starts: rows(starts[0], 2), {0: 2})
    assert offsets(lake) == [0]
