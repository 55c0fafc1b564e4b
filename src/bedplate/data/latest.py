"""Which event is the latest at each step of an entity's history, and which would be without that one's key: all by running maxima.

Rows are ordered by (group, known time, event time, partition, offset). The latest by (event time, known time, partition, offset) among
the rows up to a step is then the one with the greatest event time, and of those with one event time the furthest: no second sort.
Does not know: what the values of an event are, or who asks.
"""

from __future__ import annotations

import numpy as np

from bedplate.data.keys import Bools, Ints


def latest(groups: Ints, event: Ints) -> Ints:
    """For each row the row of its group, up to itself, with the greatest event time, the furthest of several."""
    return _running(groups, event, np.ones(len(groups), bool))


def runners_up(groups: Ints, event: Ints, key: Ints, best: Ints) -> Ints:
    """For each row the latest of its group, up to itself, that has another key than `best` = latest(groups, event); -1 for none."""
    if not len(groups):
        return np.zeros(0, np.int64)
    best_key = key[best]
    new_group = np.diff(groups, prepend=-1) != 0
    begins = new_group | (np.diff(best_key, prepend=-2) != 0)
    stretch = np.cumsum(begins) - 1  # of one group and one key of the best
    candidate = np.where(key != best_key, np.arange(len(groups)), -1)
    before = np.concatenate(([-1], best[:-1]))
    candidate[begins] = np.where(new_group, -1, before)[begins]  # the best until now has another key than the new one
    found = _running(stretch, event[candidate], candidate >= 0)
    return np.where(found >= 0, candidate[found], -1)


def _running(segments: Ints, values: Ints, counted: Bools) -> Ints:
    """For each row the row of its segment, up to itself, with the greatest value that counts, the furthest of several; -1 for none."""
    if not counted.any():
        return np.full(len(segments), -1, np.int64)
    least, most = int(values[counted].min()), int(values[counted].max())
    if (most - least + 1).bit_length() + int(segments[-1]).bit_length() > 63:
        values = np.unique(values, return_inverse=True)[1]
        least, most = 0, int(values.max())
    levels = (most - least + 1).bit_length()
    packed = np.where(counted, values - least + 1, 0) + (segments.astype(np.int64) << levels)
    greatest = np.maximum.accumulate(packed)
    places = np.where(counted & (packed == greatest), np.arange(len(packed)), -1)
    row = np.maximum.accumulate(places)
    there = (greatest & ((1 << levels) - 1)) > 0
    return np.where(there, row, -1)
