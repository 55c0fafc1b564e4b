"""The fair line: order, and that nobody is kept waiting by whoever asks much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.serve.fair import FairLine


def drained(line: FairLine[str]) -> list[str]:
    return [line.take() for _ in range(len(line))]


def test_one_caller_is_served_in_order() -> None:
    line: FairLine[str] = FairLine()
    for number, cost in enumerate([5, 1, 9, 1]):
        line.put("a", str(number), cost)
    assert (len(line), line.cost, line.next_cost()) == (4, 16, 5)
    assert drained(line) == ["0", "1", "2", "3"]
    assert (line.cost, line.next_cost()) == (0, 0)


def test_who_asks_little_does_not_wait_behind_who_asks_much() -> None:
    line: FairLine[str] = FairLine()
    for number in range(100):
        line.put("much", f"much {number}", 1)
    line.put("little", "little", 1)
    assert "little" in [line.take() for _ in range(3)]


def test_a_caller_gains_nothing_by_having_been_away() -> None:
    line: FairLine[str] = FairLine()
    for number in range(10):
        line.put("a", f"a{number}", 1)
    assert drained(line) == [f"a{number}" for number in range(10)]
    for number in range(3):
        line.put("b", f"b{number}", 1)
        line.put("a", f"a{number}", 1)
    first = [line.take() for _ in range(4)]
    assert sorted(name[0] for name in first) == ["a", "a", "b", "b"]


def test_an_empty_line_has_nobody() -> None:
    with pytest.raises(IndexError):
        FairLine[str]().take()


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 9)), min_size=1, max_size=200))
def test_everybody_who_waits_gets_the_same_share(asked: list[tuple[str, int]]) -> None:
    """While two callers wait all the time, what they got differs by no more than two of the largest requests."""
    line: FairLine[tuple[str, int]] = FairLine()
    for caller, cost in asked:
        line.put(caller, (caller, cost), cost)
    got = dict.fromkeys("abcde", 0)
    left = {caller: sum(cost for each, cost in asked if each == caller) for caller in "abcde"}
    orders: dict[str, list[int]] = {caller: [] for caller in "abcde"}
    for _ in range(len(asked)):
        waiting = [caller for caller in "abcde" if left[caller]]
        caller, cost = line.take()
        got[caller] += cost
        left[caller] -= cost
        orders[caller].append(cost)
        still = [got[each] for each in waiting if left[each]]
        assert not still or max(still) - min(still) <= 18
    assert {caller: [cost for each, cost in asked if each == caller] for caller in "abcde"} == orders
