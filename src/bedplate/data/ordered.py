"""Aggregates that are no difference of two running totals: least, greatest, last, distinct, and those that decay.

They are computed from a view's events themselves, ordered by (entity, known time, event time, partition, offset), over stretches
[start, end) of that order. Least and greatest: minima of blocks in a sparse table, so any stretch costs a few lookups (Bender and
Farach-Colton, The LCA Problem Revisited, 2000). Distinct: two pointers that sweep the order once, since stretches of rows that are
ordered by entity and time only move forward. Decayed: one recurrence over the order. A row that would see an event with its own key
is computed again from its stretch alone.
Does not know: which stretch a row sees (`join`), or windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bedplate.data.keys import Bools, Ints, texts, validity
from bedplate.data.online.sketch import Hashes, K, estimate, hashes, smallest

Floats = npt.NDArray[np.float64]

BLOCK = 32
DECAYED = ("decayed_sum", "decayed_count", "decayed_mean")
FROM_EVENTS = ("min", "max", "last", "distinct", *DECAYED)
_ABSENT = np.iinfo(np.int64).max


def counted(array: pa.Array[Any]) -> Bools:
    """Which values count: those that are neither null nor NaN."""
    valid = validity(array)
    if pa.types.is_floating(array.type):
        valid &= ~np.isnan(array.fill_null(0.0).to_numpy(zero_copy_only=False))
    return valid


@dataclass(frozen=True)
class Events:
    """One column of a view's events. `key` are codes of the dataset's key (-1: none), `at` microseconds, `group` codes of entities."""

    group: Ints
    at: Ints
    key: Ints
    values: pa.Array[Any]

    @cached_property
    def counted(self) -> Bools:
        """Which values count."""
        return counted(self.values)

    def last(self, starts: Ints, ends: Ints) -> pa.Array[Any]:
        """The last value of each stretch, null where there is none."""
        return self._taken(self._last_row(starts, ends))

    def extreme(self, greatest: bool, starts: Ints, ends: Ints) -> pa.Array[Any]:
        """The least or greatest value of each stretch, null where there is none."""
        ranks = self._ranks
        best = self._greatest if greatest else self._least
        found = best.of(starts, ends)
        rank = np.where(found == _ABSENT, -1, len(ranks.sorted) - 1 - found if greatest else found)
        return ranks.taken(rank)

    def distinct(self, starts: Ints, ends: Ints) -> Ints:
        """How many different values each stretch has: exact below 256, else the KMV estimate. Stretches must only move forward."""
        codes, kinds = self._kinds
        result = np.zeros(len(starts), np.int64)
        sweep = _Sweep(codes.tolist(), kinds)
        before: tuple[int, int, int] | None = None
        for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            if end <= start:
                continue
            if before is None or before[:2] != (start, end):
                before = (start, end, sweep.over(start, end))
            result[place] = before[2]
        return result

    def decayed(self, half_life_us: int, times: Ints, ends: Ints) -> tuple[Floats, Floats]:
        """The decayed sum of the values and the decayed count, at `times`, of all events of the group before each of `ends`."""
        amounts, weights = self._decaying(half_life_us)
        row = np.maximum(ends - 1, 0)
        there = ends > 0
        if not len(self.at):
            return np.zeros(len(ends)), np.zeros(len(ends))
        factor = np.exp2(-(times - self.at[row]) / half_life_us, where=there, out=np.zeros(len(row)))
        return amounts[row] * factor, weights[row] * factor

    def alone(self, start: int, end: int, key: int) -> Events:
        """The events of a stretch without those of a key."""
        rows = start + np.flatnonzero(self.key[start:end] != key)
        return Events(self.group[rows], self.at[rows], self.key[rows], self.values.take(_places(rows)))

    def _last_row(self, starts: Ints, ends: Ints) -> Ints:
        if not len(self.at):
            return np.full(len(ends), -1, np.int64)
        newest = np.maximum.accumulate(np.where(self.counted, np.arange(len(self.at)), -1))
        row = newest[np.maximum(ends - 1, 0)]
        return np.where((ends > starts) & (row >= starts), row, -1)

    def _taken(self, rows: Ints) -> pa.Array[Any]:
        return self.values.take(_places(rows))

    @cached_property
    def _ranks(self) -> _Ranks:
        encoded: Any = self.values.dictionary_encode()
        order = pc.array_sort_indices(encoded.dictionary).to_numpy(zero_copy_only=False)
        rank_of = np.empty(len(order), np.int64)
        rank_of[order] = np.arange(len(order))
        places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        ranks = rank_of[places] if len(rank_of) else np.zeros(len(places), np.int64)
        return _Ranks(np.where(self.counted, ranks, _ABSENT), encoded.dictionary.take(_places(order)))

    @cached_property
    def _least(self) -> _Best:
        return _Best(self._ranks.ranks)

    @cached_property
    def _greatest(self) -> _Best:
        ranks = self._ranks.ranks
        return _Best(np.where(ranks == _ABSENT, _ABSENT, len(self._ranks.sorted) - 1 - ranks))

    @cached_property
    def _kinds(self) -> tuple[Ints, Hashes]:
        """For each event the code of its value's hash (-1: not counted), and the hashes."""
        encoded: Any = self.values.dictionary_encode()
        named = hashes([str(text).encode() for text in texts(pa.table({"value": encoded.dictionary})).to_pylist()])
        kinds, code_of = np.unique(named, return_inverse=True)
        places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        codes = code_of[places] if len(code_of) else np.zeros(len(places), np.int64)
        return np.where(self.counted, codes, -1), kinds

    def _decaying(self, half_life_us: int) -> tuple[Floats, Floats]:
        """At each event what has decayed until then, itself included."""
        known: Any = self.values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
        amounts = np.where(self.counted, known, 0.0).tolist()
        weights = self.counted.astype(np.float64).tolist()
        same = np.diff(self.group, prepend=-1) == 0
        kept = np.where(same, np.exp2(-np.diff(self.at, prepend=0) / half_life_us, where=same, out=np.zeros(len(same))), 0.0).tolist()
        return _recurrence(kept, amounts), _recurrence(kept, weights)


def _recurrence(kept: list[float], added: list[float]) -> Floats:
    """s[i] = s[i - 1] * kept[i] + added[i]."""
    pairs = zip(kept, added, strict=True)
    found: Iterator[float] = accumulate(pairs, lambda total, pair: total * pair[0] + pair[1], initial=0.0)
    next(found)
    return np.fromiter(found, np.float64, len(kept))


@dataclass(frozen=True)
class _Ranks:
    """Values as their places in sorted order; those that do not count have none."""

    ranks: Ints
    sorted: pa.Array[Any]

    def taken(self, rank: Ints) -> pa.Array[Any]:
        return self.sorted.take(_places(rank))


def _places(rows: Ints) -> Any:
    """Rows to take; those below 0 are null."""
    return pa.array(rows, mask=rows < 0)


class _Best:
    """Minima of stretches of `numbers`: within blocks by running minima, over blocks by a sparse table."""

    def __init__(self, numbers: Ints) -> None:
        self._numbers = numbers
        blocks = max(1, -(-len(numbers) // BLOCK))
        padded = np.full(blocks * BLOCK, _ABSENT)
        padded[: len(numbers)] = numbers
        rows = padded.reshape(blocks, BLOCK)
        self._padded = padded
        self._upto = np.minimum.accumulate(rows, axis=1).ravel()
        self._from = np.minimum.accumulate(rows[:, ::-1], axis=1)[:, ::-1].ravel()
        self._levels = [rows.min(axis=1)]
        while 2 ** len(self._levels) <= blocks:
            below, half = self._levels[-1], 2 ** (len(self._levels) - 1)
            self._levels.append(np.minimum(below[:-half], below[half:]))

    def of(self, starts: Ints, ends: Ints) -> Ints:
        """The minimum of each stretch; the largest integer for one without numbers."""
        found = np.full(len(starts), _ABSENT)
        rows = np.flatnonzero(ends > starts)
        first, last = starts[rows], ends[rows] - 1
        across = first // BLOCK != last // BLOCK
        found[rows[across]] = self._across(first[across], last[across])
        inside = rows[~across]
        for offset in range(BLOCK):
            inside = inside[starts[inside] + offset < ends[inside]]
            if not len(inside):
                break
            found[inside] = np.minimum(found[inside], self._padded[starts[inside] + offset])
        return found

    def _across(self, first: Ints, last: Ints) -> Ints:
        best = np.minimum(self._from[first], self._upto[last])
        low, count = first // BLOCK + 1, last // BLOCK - first // BLOCK - 1
        level = np.where(count > 0, np.frexp(np.maximum(count, 1))[1] - 1, -1)
        for each in np.unique(level[level >= 0]):
            rows = np.flatnonzero(level == each)
            table, high = self._levels[each], low[rows] + count[rows] - 2**each
            best[rows] = np.minimum(best[rows], np.minimum(table[low[rows]], table[high]))
        result: Ints = best
        return result


class _Sweep:
    """Two pointers over the order, and how often each kind of value is between them."""

    def __init__(self, codes: list[int], kinds: Hashes) -> None:
        self._codes = codes
        self._kinds = kinds
        self._start = self._end = 0
        self._times: dict[int, int] = {}

    def over(self, start: int, end: int) -> int:
        """How many kinds there are in [start, end)."""
        times, codes = self._times, self._codes
        if start >= self._end:
            times.clear()
            self._start = self._end = start
        for code in codes[self._end : end]:
            if code >= 0:
                times[code] = times.get(code, 0) + 1
        for code in codes[self._start : start]:
            if code >= 0:
                if times[code] == 1:
                    del times[code]
                else:
                    times[code] -= 1
        self._start, self._end = start, end
        if len(times) < K:
            return len(times)
        return estimate(smallest(self._kinds[np.fromiter(times, np.int64, len(times))]))
