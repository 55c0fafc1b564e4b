"""The order of rows against numpy's lexsort, also where packed times are not exact, and search within groups against every row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.data.ordering import Groups, order
from bedplate.data.threads import BLOCK_ROWS, THREADED_ROWS

_rows = st.lists(st.tuples(st.integers(-1, 5), st.integers(-3, 3), st.integers(0, 2)), max_size=30)
_ids = st.sampled_from([-1, 0, 2**31, 2**62, 2**62 + 1])
_wide = st.lists(st.tuples(_ids, st.integers(-(2**62), 2**62 - 1), st.integers(0, 2)), max_size=30)


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three columns of rows."""
    group, time, tie = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    return group, time, tie


@given(st.one_of(_rows, _wide))
def test_it_is_the_lexical_order(rows: list[tuple[int, int, int]]) -> None:
    group, time, tie = columns(rows)
    assert order(group, time, lambda some: (tie[some],)).tolist() == np.lexsort((tie, time, group)).tolist()
    assert order(group, time).tolist() == np.lexsort((time, group)).tolist()


def test_the_first_of_the_ties_decides_first() -> None:
    same = np.zeros(3, np.int64)
    one, other = np.array([1, 0, 1]), np.array([0, 5, -1])
    assert order(same, same, lambda rows: (one[rows], other[rows])).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("groups", "span"), [(10, 3), (70_000, 90 * 86_400_000_000), (1, 2**63 - 1), (2**31, 2**60)])
def test_many_rows_are_ordered_by_several_threads(groups: int, span: int) -> None:
    draw = np.random.default_rng(4)
    group, time = draw.integers(0, groups, 2 * THREADED_ROWS), draw.integers(0, span, 2 * THREADED_ROWS) - span // 2
    assert np.array_equal(order(group, time), np.lexsort((time, group)))


def test_times_that_differ_by_less_than_what_is_packed_are_ordered_exactly() -> None:
    time = np.concatenate((2 * np.arange(500)[::-1], [2**62]))  # the last one leaves few bits for the others
    group = np.full(len(time), 2**30)
    assert order(group, time).tolist() == [*range(499, -1, -1), 500]


def shuffled(count: int, runs: int) -> np.ndarray:
    """Times in so many ordered runs."""
    draw = np.random.default_rng(runs)
    return np.concatenate([np.sort(part) for part in np.array_split(draw.integers(0, 10**12, count), runs)])


@pytest.mark.parametrize("runs", [1, 2, 7, 300])
@pytest.mark.parametrize("groups", [1, 50])
def test_what_comes_in_ordered_runs_is_merged(runs: int, groups: int) -> None:
    count = 2 * THREADED_ROWS + 17
    time, group = shuffled(count, runs), np.arange(count) * groups // count
    assert np.array_equal(order(group, time), np.lexsort((time, group)))


def test_rows_that_tie_across_blocks_keep_their_order() -> None:
    count = 2 * BLOCK_ROWS + 2
    same, tie = np.zeros(count, np.int64), np.arange(count)[::-1]
    assert np.array_equal(order(same, same), np.arange(count))
    assert np.array_equal(order(same, same, lambda rows: (tie[rows],)), np.arange(count)[::-1])


def test_codes_of_32_bits_are_searched_as_others() -> None:
    group, at = np.repeat(np.arange(3, dtype=np.int32), 4), np.tile(np.arange(4), 3)
    assert Groups(group, at).last(np.array([2, 0, 3, -1]), np.array([1, 9, 1, 1])).tolist() == [9, 3, -1, -1]


_pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 6)), max_size=30)
_asked = st.lists(st.tuples(st.integers(-1, 5), st.integers(-8, 8)), max_size=20)


@given(_pairs, _asked)
def test_the_first_row_of_a_group_and_the_last_at_or_before_a_time(rows: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    rows.sort()
    group, at = (np.array([row[place] for row in rows], np.int64) for place in range(2))
    groups = Groups(group, at)
    wanted, times = (np.array([row[place] for row in asked], np.int64) for place in range(2))
    for row, first, its, time in zip(groups.last(wanted, times).tolist(), groups.first(wanted).tolist(), wanted, times, strict=True):
        assert row == max((place for place, (other, known) in enumerate(rows) if other == its and known <= time), default=-1)
        assert first == min((place for place, (other, _) in enumerate(rows) if other == its), default=0) or its not in group


def test_one_large_group() -> None:
    found = Groups(np.zeros(1000, np.int64), np.arange(0, 2000, 2)).last(np.zeros(5, np.int64), np.array([-1, 0, 1, 999, 5000]))
    assert found.tolist() == [-1, 0, 0, 499, 999]
