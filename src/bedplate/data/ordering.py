"""The order of events by entity and time, on all cores of a machine, and places within groups of what is ordered so.

A group's code, as much of the time as fits and the row's number are packed into one 64-bit integer, so that plain integers are sorted,
which numpy does with vector instructions, and the order is read off their low bits. Rows whose packed times are equal, as a rule few, are
ordered exactly afterwards. Every thread packs and sorts a stretch of the rows and then merges one range of all that was sorted (parallel
sorting by regular sampling, Shi and Schaeffer 1992). What comes in order, or in long ordered runs, is merged but not sorted again.
Ten million rows take a quarter of the time of `numpy.lexsort`.
Does not know: what is ordered, or why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bedplate.data.keys import Bools, Ints
from bedplate.data.threads import blocks, in_threads, stretches

Packed = npt.NDArray[np.uint64]

_SAMPLE = 1024


def order(groups: Ints, times: Ints, ties: Callable[[Ints], Sequence[Ints]] | None = None) -> Ints:
    """The rows ordered by group, then time, then `ties`, then row. `groups` are codes from -1 on; `times` any integers.

    `ties(rows)` gives the keys that order rows of equal group and time, the first deciding first; it is asked for few rows.
    """
    count = len(groups)
    if count < 2:
        return np.zeros(count, np.int64)
    row_bits = (count - 1).bit_length()
    if int(groups.min()) < 0:
        groups = groups + 1
    if int(groups.max()).bit_length() + row_bits > 64:
        groups = np.unique(groups, return_inverse=True)[1]
    group_bits = int(groups.max()).bit_length()
    first = int(times.min())
    dropped = max(0, (int(times.max()) - first).bit_length() - (64 - row_bits - group_bits))
    packed = _sorted(lambda rows: _packed(groups, times, first, (dropped, row_bits, 64 - group_bits), rows), count)
    same = np.zeros(count, bool)
    parts = blocks(count)
    befores = [packed[max(0, part.start - 1)] for part in parts]  # what the block before ends with, until that holds rows

    def read(number: int) -> None:
        part = packed[parts[number]]
        coarse = np.concatenate((befores[number : number + 1], part)) >> np.uint64(row_bits)
        np.equal(coarse[1:], coarse[:-1], out=same[parts[number]])
        part &= np.uint64((1 << row_bits) - 1)

    in_threads(read, range(len(parts)))
    same[0] = False
    rows = packed.view(np.int64)
    _exactly(rows, same, groups, times, ties)
    return rows


def _packed(groups: Ints, times: Ints, first: int, bits: tuple[int, int, int], rows: slice) -> Packed:
    """Group, time without its `dropped` low bits, and row, from the highest bit to the lowest."""
    dropped, row_bits, group_shift = bits
    whole = np.empty(rows.stop - rows.start, np.uint64)
    for part in blocks(len(whole)):  # what is made on the way stays in the cache
        row = slice(rows.start + part.start, rows.start + part.stop)
        packed = np.subtract(times[row], first).view(np.uint64)  # a span over 2^63 wraps round to the right unsigned number
        packed >>= np.uint64(dropped)
        packed <<= np.uint64(row_bits)
        packed |= np.arange(row.start, row.stop, dtype=np.uint64)
        if group_shift < 64:
            packed |= groups[row].astype(np.uint64) << np.uint64(group_shift)
        whole[part] = packed
    return whole


def _sorted(packed: Callable[[slice], Packed], count: int) -> Packed:
    """The integers that `packed` gives for stretches of rows, sorted."""
    runs = in_threads(lambda rows: _run(packed(rows)), stretches(count))
    threads = len(runs)
    if threads == 1:
        one: Packed = runs[0]
        return one
    sample = np.sort(np.concatenate([run[:: max(1, len(run) * threads // _SAMPLE)] for run in runs]))
    bounds = [sample[len(sample) * number // threads] for number in range(1, threads)]
    cuts = [[0, *np.searchsorted(run, bounds).tolist(), len(run)] for run in runs]
    ends = np.cumsum([0, *(sum(cut[number + 1] - cut[number] for cut in cuts) for number in range(threads))])
    whole = np.empty(count, np.uint64)

    def merge(number: int) -> None:
        part = whole[ends[number] : ends[number + 1]]
        np.concatenate([run[cut[number] : cut[number + 1]] for run, cut in zip(runs, cuts, strict=True)], out=part)
        part.sort(kind="stable")  # which for 64-bit integers is Timsort: it finds the runs and merges them

    in_threads(merge, range(threads))
    return whole


def _run(packed: Packed) -> Packed:
    """The integers sorted in place: what looks like few ordered runs is merged, which reads what is in order just once."""
    probed = slice(0, len(packed) - 1, max(1, len(packed) // _SAMPLE))
    in_runs = bool(np.all(packed[1:][probed] >= packed[probed]))
    packed.sort(kind="stable" if in_runs else "quicksort")
    return packed


def _exactly(rows: Ints, same: Bools, groups: Ints, times: Ints, ties: Callable[[Ints], Sequence[Ints]] | None) -> None:
    """Put rows that are the `same` as the one before in group and coarse time in their exact order, in place."""
    if not same.any():
        return
    among = same.copy()
    among[:-1] |= same[1:]
    places = np.flatnonzero(among)
    unsure = np.sort(rows[places])  # what is equal in all keys keeps the order of rows
    decided = () if ties is None else tuple(reversed(ties(unsure)))
    rows[places] = unsure[np.lexsort((*decided, times[unsure], groups[unsure]))]


class Groups:
    """Rows that are ordered by group (codes from 0 on) and time, searched by both."""

    def __init__(self, group: Ints, at: Ints) -> None:
        self._at = at
        count = int(group[-1]) + 1 if len(group) else 0
        self._starts = np.searchsorted(group, np.arange(count + 1, dtype=group.dtype))  # of its type, else all of it is converted

    def first(self, groups: Ints) -> Ints:
        """The first row of each group, 0 for one that is not there."""
        count = len(self._starts) - 1
        known = (groups >= 0) & (groups < count)
        return np.where(known, self._starts[np.where(known, groups, 0)], 0)

    def last(self, groups: Ints, times: Ints) -> Ints:
        """The last row of each group at or before each time, -1 for none: binary searches of a block of them at once."""
        found = np.empty(len(groups), np.int64)

        def search(part: slice) -> None:
            found[part] = self._last(groups[part], times[part])

        in_threads(search, blocks(len(groups)))
        return found

    def _last(self, groups: Ints, times: Ints) -> Ints:
        count = len(self._starts) - 1
        known = (groups >= 0) & (groups < count)
        if not count:
            return np.full(len(groups), -1, np.int64)
        of = np.where(known, groups, 0)
        first = self._starts[of]
        low, high = first.copy(), np.where(known, self._starts[of + 1], first)
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            past = (low < high) & (self._at[np.minimum(middle, len(self._at) - 1)] <= times)
            low, high = np.where(past, middle + 1, low), np.where(past, high, middle)
        return np.where(low > first, low - 1, -1)
