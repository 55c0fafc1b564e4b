"""The point-in-time join: every row of a spine with the features that were known at its time, and nothing else.

The spine comes back whole: its rows, their order, duplicates and nulls. A row at time T sees what was known at T or before; a window of
length W covers (T - W, T]. A row never sees an event with its own key, if the view's dataset has the key columns of the spine: what it
became may be known by T, by a late row or a clock that is wrong, and must not explain itself. A null time or entity gives null
features; an unknown entity gives counts and sums of 0, and null for all else. As of a time, a value whose event happened longer than the
view's time to live before T is null.

The lookups are binary searches over the sorted prefix sums that a view holds. DuckDB's ASOF joins over the same prefix sums
took twice the time for 330,000 rows, and have to be sorted back into the order of the spine.
Does not know: labels and splits (`data.training_set`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bedplate.core.errors import DataError
from bedplate.data.features import Aggregated, View, Window, feature_name, finish
from bedplate.data.keys import Bools, Ints, column, lookup, microseconds, one_piece
from bedplate.data.ordered import DECAYED, FROM_EVENTS, Events
from bedplate.data.ordering import Groups
from bedplate.data.ordering import order as ordered
from bedplate.data.threads import in_threads


def join(spine: pa.Table, at: str, views: Sequence[View], own: Sequence[str] = (), owner: str = "spine") -> pa.Table:
    """The spine with the output columns of `views` appended, as of each row's timestamp column `at`.

    `own` names the spine's key columns: an event with a row's own key is not seen by it. `owner` names the spine in errors.
    Raises DataError for a missing column, one of another type than a view's, or a name that is there twice.
    """
    at_us, has_time = microseconds(column(spine, at, owner), f"{owner}.{at}")
    asked = _Asked(spine, owner, at_us, has_time, tuple(own))
    result = spine
    for view in views:
        made = _windowed(view, asked) if view.kind == "windowed" else _asof(view, asked)
        for name, _ in view.columns:
            if name in result.column_names:
                raise DataError(f"{owner} has a column with the name of a feature", value=name, fix="rename the feature or the column")
            result = result.append_column(name, made[name])
    return result


@dataclass(frozen=True)
class _Asked:
    spine: pa.Table
    owner: str
    at_us: Ints
    has_time: Bools
    own: tuple[str, ...]
    keys: dict[str, Ints] = field(default_factory=dict)

    def excludes(self, view: View) -> bool:
        return bool(view.key) and set(view.key) == set(self.own)

    def key(self, view: View) -> Ints:
        file = view.files["keys.arrow"]
        if file not in self.keys:  # views over one dataset share it
            self.keys[file] = lookup(view.load("keys"), self.spine, self.owner)[0]
        return self.keys[file]


def _groups(table: pa.Table) -> Groups:
    return Groups(*(table.column(name).to_numpy() for name in ("group", "at")))


class _Sums:
    """A table of running totals: what lies in (T - W, T]."""

    def __init__(self, table: pa.Table) -> None:
        self._prefix = _groups(table)
        self._numbers = [table.column(name).to_numpy() for name in table.column_names[2:]]

    def last(self, groups: Ints, times: Ints) -> Ints:
        return self._prefix.last(groups, times)

    def within(self, groups: Ints, times: Ints, ends: Ints, length_us: int) -> list[Ints]:
        """The sum of each number over the window that ends at row `ends` = last(groups, times)."""
        starts = self._prefix.last(groups, times - length_us)
        return [self._upto(number, ends) - self._upto(number, starts) for number in self._numbers]

    def upto(self, ends: Ints) -> list[Ints]:
        """The sum of each number over all that there is until row `ends`."""
        return [self._upto(number, ends) for number in self._numbers]

    def _upto(self, number: Ints, rows: Ints) -> Ints:
        return np.where(rows >= 0, number[rows], 0) if len(number) else np.zeros(len(rows), np.int64)


def _windowed(view: View, asked: _Asked) -> Mapping[str, pa.Array[Any]]:
    entities = view.load("entities")
    entity, present = lookup(entities, asked.spine, asked.owner)
    present &= asked.has_time
    order = ordered(entity, asked.at_us)
    groups, times = entity[order], asked.at_us[order]
    sums = _Sums(view.load("prefix"))
    ends = sums.last(groups, times)
    windows = {window.text: sums.within(groups, times, ends, window.length_us) for window in view.windows}
    own = _Own(view, asked.key(view)[order], groups, times, entities.num_rows) if asked.excludes(view) else None
    if own is not None:
        for window in view.windows:
            for number, seen in zip(windows[window.text], own.within(window), strict=True):
                number[own.rows] -= seen
    result: dict[str, pa.Array[Any]] = {}
    for place, part in enumerate(view.aggregated):
        for aggregate in part.aggregates:
            for length in part.lengths(view, aggregate):
                name = feature_name(view.name, part.column, aggregate, length.text)
                if aggregate in FROM_EVENTS:
                    seen_events = _Seen(view, part, groups, times, own, place)
                    result[name] = _placed(seen_events.values(aggregate, length), ~present[order], order)
                else:
                    counts, totals = windows[length.text][2 * place : 2 * place + 2]
                    missing = ~present[order] | ((counts == 0) if aggregate == "mean" else False)
                    result[name] = _back(finish(aggregate, counts, totals, part.scale), missing, order)
    return result


class _Own:
    """The events with a row's own key, for the rows that would see one: most have none that is known yet, and are passed over."""

    def __init__(self, view: View, key: Ints, entity: Ints, times: Ints, entities: int) -> None:
        table = view.load("own")
        self.key = key
        self.rows = np.zeros(0, np.int64)
        self._sums = _Sums(table)
        if table.num_rows:
            keys = table.column("group").to_numpy() // entities
            starts = np.flatnonzero(np.diff(keys, prepend=-1))
            first_known = np.full(max(int(keys[-1]), int(key.max(initial=0))) + 1, np.iinfo(np.int64).max)
            first_known[keys[starts]] = np.minimum.reduceat(table.column("at").to_numpy(), starts)
            self.rows = np.flatnonzero((key >= 0) & (entity >= 0) & (first_known[key] <= times))
        self._groups, self._times = key[self.rows] * entities + entity[self.rows], times[self.rows]
        self._ends = self._sums.last(self._groups, self._times)

    def within(self, window: Window | None) -> list[Ints]:
        """The numbers of own events in the windows of `rows`; without a window, in all that is known."""
        if window is None:
            return self._sums.upto(self._ends)
        return self._sums.within(self._groups, self._times, self._ends, window.length_us)


class _Seen:
    """The events of one column of a view that rows, ordered by entity and time, see. Rows that would see themselves are done one by one."""

    def __init__(self, view: View, part: Aggregated, groups: Ints, times: Ints, own: _Own | None, place: int) -> None:
        table = view.load("events")
        group, at, key = (table.column(name).to_numpy() for name in ("group", "at", "key"))
        self._events = Events(group, at, key, one_piece(table.column(f"value_{part.column}")))
        self._prefix = Groups(group, at)
        self._groups, self._times = groups, times
        self._own, self._place = own, place
        self._ends = self._prefix.last(groups, times) + 1
        self._firsts = self._prefix.first(groups)

    def values(self, aggregate: str, length: Window) -> pa.Array[Any]:
        """What an aggregate is over a window, or decayed by a half-life."""
        window = None if aggregate in DECAYED else length
        starts = self._firsts
        if window is not None:
            starts = np.maximum(starts, self._prefix.last(self._groups, self._times - window.length_us) + 1)
        found = _of_events(aggregate, self._events, length.length_us, self._times, starts, self._ends)
        if self._own is None or not len(self._own.rows):
            return found
        itself = self._own.rows[self._own.within(window)[2 * self._place] > 0]
        if not len(itself):
            return found
        alone = [self._alone(aggregate, length, int(starts[row]), row) for row in itself.tolist()]
        at = np.arange(len(found))
        at[itself] = len(found) + np.arange(len(itself))
        places: Any = pa.array(at)
        return pa.concat_arrays([found, *alone]).take(places)

    def _alone(self, aggregate: str, length: Window, start: int, row: int) -> pa.Array[Any]:
        assert self._own is not None
        events = self._events.alone(start, int(self._ends[row]), int(self._own.key[row]))
        stretch = np.zeros(1, np.int64), np.array([len(events.at)])
        return _of_events(aggregate, events, length.length_us, self._times[row : row + 1], *stretch)


def _of_events(aggregate: str, events: Events, length_us: int, times: Ints, starts: Ints, ends: Ints) -> pa.Array[Any]:
    if aggregate == "last":
        return events.last(starts, ends)
    if aggregate in ("min", "max"):
        return events.extreme(aggregate == "max", starts, ends)
    if aggregate == "distinct":
        return pa.array(events.distinct(starts, ends))
    amounts, weights = events.decayed(length_us, times, ends)
    if aggregate == "decayed_mean":
        empty = weights == 0
        return pa.array(np.divide(amounts, weights, out=np.zeros(len(amounts)), where=~empty), mask=empty)
    return pa.array(amounts if aggregate == "decayed_sum" else weights)


def _asof(view: View, asked: _Asked) -> Mapping[str, pa.Array[Any]]:
    entity, _ = lookup(view.load("entities"), asked.spine, asked.owner)
    prefix = view.load("prefix")
    step = np.where(asked.has_time, _groups(prefix).last(entity, asked.at_us), -1)
    row = step
    if "best" in prefix.column_names:  # else each step has a row of its own
        found = step >= 0
        best, other, best_key = (_take(prefix.column(name).to_numpy(), step) for name in ("best", "other", "key"))
        row = np.where(found, best, -1)
        if asked.excludes(view):
            key = asked.key(view)
            itself = found & (key >= 0) & (key == best_key)
            row = np.where(itself, other, row)
    if view.ttl_us is not None:
        happened = _take(view.load("happened").column("at").to_numpy(), np.maximum(row, 0))
        row = np.where(happened < asked.at_us - view.ttl_us, -1, row)
    rows: Any = pa.array(row, mask=row < 0)
    values = view.load("values")
    taken = in_threads(lambda name: one_piece(values.column(name).take(rows)), view.values)
    return {feature_name(view.name, name): each for name, each in zip(view.values, taken, strict=True)}


def _take(values: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    return values[rows] if len(values) else np.full(len(rows), -1, np.int64)


def _placed(values: pa.Array[Any], missing: Bools, order: Ints) -> pa.Array[Any]:
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    places: Any = pa.array(back, mask=missing[back])
    return values.take(places)


def _back(values: npt.NDArray[Any], missing: Bools, order: Ints) -> pa.Array[Any]:
    placed, mask = np.empty(len(values), values.dtype), np.empty(len(values), bool)
    placed[order], mask[order] = values, missing
    return pa.array(placed, mask=mask)
