"""What differs between two versions: told by the log alone where that is enough, and by key where rows are asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.data.diff import compare
from bedplate.data.lake import Lake, Table, Write

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("_offset", pa.int64())])
Rows = list[tuple[int, str | None]]


def arrow(rows: Rows, first: int = 0) -> pa.Table:
    columns = {"id": [row[0] for row in rows], "name": [row[1] for row in rows], "_offset": range(first, first + len(rows))}
    return pa.table(columns, schema=SCHEMA)


def table(root: Path, *writes: tuple[Rows, bool]) -> Table:
    """A table with one commit for each of (rows, whether they replace all)."""
    made = Lake(root).create("t", SCHEMA)
    for number, (rows, replace) in enumerate(writes):
        made.write(lambda rows=rows, number=number, replace=replace: Write(arrow(rows, number * 100), {"m": number}, replace=replace))
    return made


def damage(root: Path) -> None:
    """Make every data file unreadable: what still works has read none of them."""
    for path in (root / "t").glob("*.parquet"):
        path.write_bytes(b"nothing")


def test_appended_rows_are_added_and_the_file_list_alone_tells_the_counts(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a"), (2, "b")], False), ([(3, "c")], False))
    found = compare(after.at(1), after, ["id"], rows=True)
    assert found.changes is not None
    assert (found.changes.added, found.changes.removed, found.changes.changed) == (1, 0, 0)
    assert found.changes.samples["added"] == [{"id": 3, "name": "c"}]
    damage(tmp_path)
    counted = compare(after.at(1), after)
    assert (counted.rows_before, counted.rows_after, counted.changes) == (2, 3, None)
    assert (counted.files_added.count, counted.files_added.rows, counted.files_removed.count, counted.files_kept.rows) == (1, 1, 0, 2)
    assert counted.files_added.size_bytes > 0


def test_the_files_that_both_have_are_not_read(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a")], False), ([(2, "b")], False), ([(3, "c")], False))
    for path in after.at(2).files():
        (tmp_path / "t" / path).write_bytes(b"nothing")
    found = compare(after.at(2), after, ["id"], rows=True)
    assert found.changes is not None
    assert found.changes.samples["added"] == [{"id": 3, "name": "c"}]


def test_the_same_files_are_the_same_rows_unread(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a")], False))
    damage(tmp_path)
    found = compare(after, after.at(1), ["id"], rows=True)
    assert found.same_files and found.same_columns
    assert found.changes is not None and found.changes.added == found.changes.removed == found.changes.changed == 0


def test_rows_of_a_key_that_both_have_are_changed_with_both_states(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a"), (2, "b"), (3, "c")], False), ([(2, "B"), (3, "c"), (4, "d")], True))
    found = compare(after.at(1), after, ["id"], rows=True)
    assert found.changes is not None
    assert found.changes.samples == {
        "added": [{"id": 4, "name": "d"}],
        "removed": [{"id": 1, "name": "a"}],
        "changed": [{"before": {"id": 2, "name": "b"}, "after": {"id": 2, "name": "B"}}],
    }


def test_a_file_that_was_read_again_and_one_that_was_compacted_are_no_change(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a")], False), ([(2, None)], False), ([(1, "a"), (2, None)], True))
    found = compare(after.at(2), after, ["id"], rows=True)
    assert not found.same_files
    assert found.changes is not None and found.changes.added == found.changes.removed == found.changes.changed == 0


def test_without_a_key_rows_are_added_and_removed_as_often_as_they_are_there(tmp_path: Path) -> None:
    after = table(tmp_path, ([(1, "a"), (1, "a"), (2, "b")], False), ([(1, "a"), (2, "b"), (2, "b")], True))
    found = compare(after.at(1), after, rows=True)
    assert found.changes is not None
    assert (found.changes.added, found.changes.removed, found.changes.changed) == (1, 1, 0)
    assert found.changes.samples["removed"] == [{"id": 1, "name": "a"}]


def test_columns_that_came_went_or_changed_are_named_and_the_others_compared(tmp_path: Path) -> None:
    made = table(tmp_path, ([(1, "a"), (2, "b")], False))
    other = pa.table({"id": pa.array([1, 3]), "name": pa.array(["a", "c"]).cast(pa.large_string()), 'o"dd': pa.array([0.5, 1.5])})
    made.write(lambda: Write(other.set_column(0, "id", other["id"].cast(pa.int32())), {"m": 9}, replace=True))
    found = compare(made.at(1), made, ["id"], rows=True)
    assert found.columns_added == {'o"dd': "double"}
    assert found.columns_removed == {"_offset": "int64"}
    assert found.columns_changed == {"id": ("int64", "int32")}
    assert not found.same_columns
    assert found.changes is not None and (found.changes.added, found.changes.removed, found.changes.changed) == (1, 1, 0)
    assert compare(made, made.at(1)).columns_removed == {'o"dd': "double"}, "and backwards"


def test_no_more_samples_than_asked_for(tmp_path: Path) -> None:
    after = table(tmp_path, ([(number, "a") for number in range(50)], False), ([(number, "b") for number in range(50)], True))
    found = compare(after.at(1), after, ["id"], rows=True, samples=3)
    assert found.changes is not None
    assert (found.changes.changed, [pair["after"]["id"] for pair in found.changes.samples["changed"]]) == (50, [0, 1, 2])


ROWS: Any = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", None])), max_size=8)


@settings(max_examples=15, deadline=None)
@given(common=ROWS, before=ROWS, after=ROWS)
def test_it_says_what_two_counters_say(tmp_path_factory: pytest.TempPathFactory, common: Rows, before: Rows, after: Rows) -> None:
    made = table(tmp_path_factory.mktemp("t"), (common + before, False), (after + common[::-1], True))
    was, now = Counter(common + before), Counter(common + after)
    found = compare(made.at(1), made, rows=True).changes
    assert found is not None and (found.added, found.removed) == ((now - was).total(), (was - now).total())
    gone, come = {row[0] for row in was - now}, {row[0] for row in now - was}
    keyed = compare(made.at(1), made, ["id"], rows=True).changes
    assert keyed is not None and keyed.changed == len(gone & come)
    assert keyed.added == sum(count for row, count in (now - was).items() if row[0] not in gone)
    assert keyed.removed == sum(count for row, count in (was - now).items() if row[0] not in come)
