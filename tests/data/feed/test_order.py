"""The order: a bijection for any count and key, any place at any time, and windows that keep to their shards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.data.feed.order import Order, Permutation


@settings(max_examples=150, deadline=None)
@given(count=st.integers(0, 5000), seed=st.integers(0, 2**64), epoch=st.integers(0, 100))
def test_it_is_a_bijection(count: int, seed: int, epoch: int) -> None:
    seen = Permutation(count, seed, epoch).at(np.arange(count))
    assert sorted(seen.tolist()) == list(range(count))


@settings(max_examples=100, deadline=None)
@given(count=st.integers(1, 2**62), seed=st.integers(0, 2**64), data=st.data())
def test_any_place_of_any_count_is_within_it_and_does_not_depend_on_what_else_is_asked(count: int, seed: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20, unique=True))
    permutation = Permutation(count, seed)
    together = permutation.at(places).tolist()
    assert len(set(together)) == len(places)
    assert all(0 <= each < count for each in together)
    assert [int(permutation.at(place)) for place in places] == together


def test_every_key_has_an_order_of_its_own() -> None:
    orders = {tuple(Permutation(50, seed, epoch).at(np.arange(50)).tolist()) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_it_looks_like_a_random_permutation() -> None:
    """Against what is expected of a uniform one: neighbours a third of the count apart, no correlation, about one fixed place in all."""
    count, fixed = 10_007, 0
    for seed in range(20):
        order = Permutation(count, seed).at(np.arange(count))
        assert abs(np.abs(np.diff(order)).mean() / count - 1 / 3) < 0.02
        assert abs(np.corrcoef(np.arange(count), order)[0, 1]) < 0.05
        fixed += int((order == np.arange(count)).sum())
    assert 5 < fixed < 45


def test_each_element_is_equally_often_at_each_place() -> None:
    """Chi-squared over 4,000 keys of a count of 7: 36 degrees of freedom, far below the 99.99% point of 78."""
    counts = np.zeros((7, 7))
    for seed in range(4000):
        counts[np.arange(7), Permutation(7, seed).at(np.arange(7))] += 1
    expected = 4000 / 7
    assert ((counts - expected) ** 2 / expected).sum() < 78


def test_a_count_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="cannot permute -1 places"):
        Permutation(-1)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.integers(1, 20), min_size=1, max_size=12), window=st.integers(1, 14) | st.none(), seed=st.integers(0, 99))
def test_an_epoch_has_every_record_once_with_any_window(rows: list[int], window: int | None, seed: int) -> None:
    order = Order(rows, seed=seed, epoch=3, window=window)
    assert sorted(order.records(np.arange(sum(rows))).tolist()) == list(range(sum(rows)))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.integers(1, 20), min_size=2, max_size=12), window=st.integers(1, 4), seed=st.integers(0, 99), data=st.data())
def test_a_window_needs_its_shards_only_and_they_are_foreseen(rows: list[int], window: int, seed: int, data: st.DataObject) -> None:
    order = Order(rows, seed=seed, epoch=0, window=window)
    ends = np.cumsum(rows)
    shards = np.searchsorted(ends, order.records(np.arange(sum(rows))), side="right").tolist()
    place = data.draw(st.integers(0, sum(rows) - 1))
    foreseen = order.shards(place)
    assert len(foreseen) <= 2 * window or window >= len(rows)
    assert shards[place] in foreseen[:window] or window >= len(rows)
    met = list(dict.fromkeys(shards))
    if window < len(rows):
        for first in range(0, len(met), window):
            assert max(shards.index(shard) for shard in met[first : first + window]) < sum(rows)
            span = [shards.index(shard) for shard in met[first : first + window]]
            later = met[first + window :]
            last = max(place for place, shard in enumerate(shards) if shard in met[first : first + window])
            assert all(shards.index(shard) > last for shard in later), (span, later)


def test_without_shuffling_records_come_as_they_lie() -> None:
    order = Order([3, 4], seed=1, epoch=1, shuffled=False)
    assert order.records(np.arange(7)).tolist() == list(range(7))
    assert order.shards(4) == [1]
