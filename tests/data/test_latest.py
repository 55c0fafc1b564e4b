"""The latest event of each step, and the latest but for one key, against looking at every event."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bedplate.data.latest import latest, runners_up

_histories = st.lists(st.tuples(st.integers(0, 2), st.integers(-4, 4), st.integers(-1, 3)), max_size=25)
_far = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-(2**62), -1, 0, 2**62]), st.integers(0, 1)), max_size=12)


def columns(rows: list[tuple[int, int, int]]) -> list[np.ndarray]:
    """Group, event time and key of rows, in order of their groups."""
    ordered = sorted(rows, key=lambda row: row[0])
    return [np.array([row[place] for row in ordered], np.int64) for place in range(3)]


def greatest(rows: list[int], event: np.ndarray) -> int:
    """The row with the greatest event time, the furthest of several; -1 for none."""
    return max(rows, key=lambda row: (event[row], row), default=-1)


@given(st.one_of(_histories, _far))
def test_the_latest_is_the_furthest_with_the_greatest_event_time(rows: list[tuple[int, int, int]]) -> None:
    group, event, _ = columns(rows)
    wanted = [greatest([other for other in range(row + 1) if group[other] == group[row]], event) for row in range(len(rows))]
    assert latest(group, event).tolist() == wanted


@given(st.one_of(_histories, _far))
def test_without_a_key_another_one_is_the_latest(rows: list[tuple[int, int, int]]) -> None:
    group, event, key = columns(rows)
    best = latest(group, event)
    other = runners_up(group, event, key, best)
    for row in range(len(rows)):
        if key[best[row]] >= 0:
            allowed = [each for each in range(row + 1) if group[each] == group[row] and key[each] != key[best[row]]]
            assert other[row] == greatest(allowed, event), row


def test_a_corrected_event_leaves_the_one_before_it_as_the_other() -> None:
    group, event, key = np.zeros(4, np.int64), np.array([1, 5, 3, 5]), np.array([7, 8, 9, 8])
    best = latest(group, event)
    assert best.tolist() == [0, 1, 1, 3]
    assert runners_up(group, event, key, best).tolist() == [-1, 0, 2, 2]
