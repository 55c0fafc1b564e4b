"""A view's values for one entity as of a time, from its packed rows.

Which rows that takes is known before any is read (`needed`): the head, the tile of the time that is asked for, those in which windows
begin, and those of events that the row must not see. What is complete between comes from the head's summaries.
Does not know: stores, or how a key is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from bedplate.core.errors import DataError
from bedplate.data.features import QUANTA_PER_UNIT, finish
from bedplate.data.keys import Ints
from bedplate.data.online.block import Block, decode
from bedplate.data.online.definition import (
    DECAYED,
    EVENT,
    FIRST_VALUE,
    KNOWN,
    LAST_KNOWN,
    NEVER_US,
    NUMBER,
    OFFSET_AT,
    PARTITION_AT,
    Part,
    ViewDefinition,
)
from bedplate.data.online.rows import HEAD, Head, as_float, best_of, decode_head, hot_layout, natural
from bedplate.data.online.sketch import estimate, smallest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SUMMED = ("count", "sum", "mean")
Value = str | int | float | bool | datetime | None
Identity = tuple[int, int, int]  # known-at, partition, offset


def needed(view: ViewDefinition, at_us: int, own: Collection[Identity]) -> list[int]:
    """The numbers of the tiles that an answer as of a time may need."""
    times = {at_us, *(at_us - length for _, length in view.windows), *(known for known, _, _ in own if known <= at_us)}
    return [*{time // view.tile_us for time in times}]


def answer(view: ViewDefinition, head: bytes | None, tiles: Mapping[int, bytes], at_us: int, own: Collection[Identity]) -> list[Value]:
    """The values of the view's columns. `tiles` are those of `needed` that there are; events in `own` are not seen.

    Raises DataError when what was known at the beginning of a window is gone.
    """
    if view.kind == "asof":
        return _asof(view, head, tiles, at_us, own)
    return _windowed(view, head, tiles, at_us, own)


def _asof(view: ViewDefinition, head: bytes | None, tiles: Mapping[int, bytes], at_us: int, own: Collection[Identity]) -> list[Value]:
    if head is None:
        return [None] * len(view.values)
    _, _, hot_length, newest_us, _ = HEAD.unpack_from(head)
    if newest_us <= at_us and hot_length:
        found = _hot(view, head, at_us, own)
        if found is not None:
            return found
    decoded = decode_head(head)
    _check_kept(view, decoded, at_us)
    detailed = _detailed(decoded, tiles, at_us, own)
    blocks = [Block(block.matrix, block.marks, block.texts) for block in detailed if block.size]
    if not decoded.inline:
        numbers = decoded.block.matrix[NUMBER]
        full = (numbers < at_us // view.tile_us) & ~np.isin(numbers, list(tiles))
        if full.any():
            summaries = decoded.block.take(full)
            blocks.append(Block(summaries.matrix[1:], summaries.marks, summaries.texts))
    if not blocks:
        return [None] * len(view.values)
    block, place = max(((block, best_of(block.matrix)) for block in blocks), key=lambda pair: _rank(*pair))
    column = block.matrix[:, place]
    if view.ttl_us is not None and int(column[EVENT]) < at_us - view.ttl_us:
        return [None] * len(view.values)
    marks = block.marks[:, place].tolist()
    pairs = zip(view.values, column[FIRST_VALUE:], marks, strict=True)
    return [_value(kind, natural(kind, np.array([number]), block.texts)[0]) if mark else None for (_, kind), number, mark in pairs]


def _rank(block: Block, place: int) -> tuple[int, ...]:
    known, event, partition, offset = block.matrix[:FIRST_VALUE, place].tolist()
    return event, known, partition, offset


def _hot(view: ViewDefinition, head: bytes, at_us: int, own: Collection[Identity]) -> list[Value] | None:
    """The values of the best event of all, which the head begins with; None when it is one that must not be seen."""
    layout = hot_layout(view.kinds)
    known, event, partition, offset, marks, *numbers = layout.unpack_from(head, HEAD.size)
    if own and (known, partition, offset) in own:
        return None
    if view.ttl_us is not None and event < at_us - view.ttl_us:
        return [None] * len(numbers)
    if view.numeric and 0 not in marks:
        return numbers
    at = HEAD.size + layout.size
    values: list[Value] = []
    for kind, number, mark in zip(view.kinds, numbers, marks, strict=True):
        if kind == "string":
            text = head[at : at + number].decode()
            at += number
            values.append(text if mark else None)
        else:
            values.append(_value(kind, number) if mark else None)
    return values


def _check_kept(view: ViewDefinition, head: Head, at_us: int) -> None:
    if head.gone_us == NEVER_US:
        return
    oldest_us = at_us - (view.ttl_us or 0) - 1 if view.kind == "asof" else at_us - view.longest_us
    if oldest_us < head.gone_us:
        what = f"the online store no longer holds what was known by then for feature {view.name!r}"
        raise DataError(what, value=(EPOCH + timedelta(microseconds=at_us)).isoformat(), fix="give the feature a longer ttl")


def _detailed(head: Head, tiles: Mapping[int, bytes], at_us: int, own: Collection[Identity]) -> list[Block]:
    """Events known by the time, without those that must not be seen: all of them, or those of the tiles that were read."""
    blocks = [head.block] if head.inline else [decode(body) for _, body in sorted(tiles.items())]
    result = []
    for block in blocks:
        known = block.matrix[KNOWN]
        seen = block.take(slice(0, int(np.searchsorted(known, at_us, "right"))))
        if own:
            identities = zip(*seen.matrix[[KNOWN, PARTITION_AT, OFFSET_AT]].tolist(), strict=True)
            hidden = np.array([identity in own for identity in identities], bool)
            if hidden.any():
                seen = seen.take(~hidden)
        result.append(seen)
    return result


def _windowed(view: ViewDefinition, head: bytes | None, tiles: Mapping[int, bytes], at_us: int, own: Collection[Identity]) -> list[Value]:
    gathered = _Gathered(view, head, tiles, at_us, own)
    spans = [gathered.span(length) for _, length in view.windows]
    summed = [gathered.sums(span) for span in spans]
    counts, totals = np.array([pair[0] for pair in summed]), np.array([pair[1] for pair in summed])
    values: list[Value] = []
    for part in view.parts:
        for aggregate in part.aggregates:
            if aggregate in DECAYED:
                values += [gathered.decayed(part, aggregate, place) for place in range(len(view.half_lives))]
            elif aggregate in SUMMED:
                scale = QUANTA_PER_UNIT if part.kind == "float" else 1
                found = finish(aggregate, counts[:, part.mark], totals[:, max(part.total, 0)], scale).tolist()
                values += [value if value == value else None for value in found]
            else:
                pairs = zip(spans, counts[:, part.mark].tolist(), strict=True)
                values += [gathered.looked_up(part, aggregate, span) if count or aggregate == "distinct" else None for span, count in pairs]
    return values


class _Span:
    """What lies in one window: columns of the summaries, and of each tile that was read those from a place on."""

    def __init__(self, full: Any, starts: Sequence[int]) -> None:
        self.full = full
        self.starts = starts


class _Gathered:
    """The rows of one entity as of one time."""

    def __init__(self, view: ViewDefinition, head: bytes | None, tiles: Mapping[int, bytes], at_us: int, own: Collection[Identity]) -> None:
        self._view = view
        self._at_us = at_us
        self._blocks: list[Block] = []
        self._summaries: Block | None = None
        if head is None:
            return
        decoded = decode_head(head)
        _check_kept(view, decoded, at_us)
        self._blocks = _detailed(decoded, tiles, at_us, own)
        if not decoded.inline:
            numbers = decoded.block.matrix[NUMBER]
            full = numbers < at_us // view.tile_us
            for number in tiles:
                full &= numbers != number
            self._summaries = decoded.block.take(full)

    def span(self, length_us: int) -> _Span:
        """The window of that length that ends at the time."""
        start_us = self._at_us - length_us
        starts = [int(np.searchsorted(block.matrix[KNOWN], start_us, "right")) for block in self._blocks]
        full = None
        if self._summaries is not None:
            first = int(np.searchsorted(self._summaries.matrix[NUMBER], start_us // self._view.tile_us, "right"))
            full = slice(first, None)
        return _Span(full, starts)

    def sums(self, span: _Span) -> tuple[Ints, Ints]:
        """The counts of all columns, and the totals of those that are summed (one zero where none is)."""
        view = self._view
        counts = np.zeros(len(view.parts), np.int64)
        totals = np.zeros(max(1, len(view.total_rows)), np.int64)
        if self._summaries is not None:
            states = np.add.reduce(self._summaries.matrix[:, span.full], axis=1)
            counts += states[view.count_states]
            if len(view.total_rows):
                totals += states[view.total_states]
        for block, start in zip(self._blocks, span.starts, strict=True):
            counts += np.add.reduce(block.marks[:, start:], axis=1, dtype=np.int64)
            if len(view.total_rows):
                totals += np.add.reduce(block.matrix[:, start:], axis=1)[view.total_rows]
        return counts, totals

    def looked_up(self, part: Part, aggregate: str, span: _Span) -> Value:
        """A value of one window that is no sum: distinct values, or the least, greatest or last one where there is any."""
        if aggregate == "distinct":
            return estimate(smallest(np.concatenate([np.empty(0, np.uint64), *self._sketches(part, span)])))
        return _value(part.kind, self._extreme(part, aggregate, span))

    def decayed(self, part: Part, aggregate: str, place: int) -> Value:
        """The decayed sum, count or mean of all that was known by the time."""
        half_life_us = self._view.half_lives[place][1]
        amount = weight = 0.0
        if self._summaries is not None and self._summaries.size:
            matrix = self._summaries.matrix
            weights = np.exp2(-(self._at_us - matrix[LAST_KNOWN]) / half_life_us)
            amount += float((weights * matrix[part.states[f"amount{place}"]].view(np.float64)).sum())
            weight += float((weights * matrix[part.states[f"weight{place}"]].view(np.float64)).sum())
        for block in self._blocks:
            valid = block.marks[part.mark].astype(bool)
            weights = np.exp2(-(self._at_us - block.matrix[KNOWN, valid]) / half_life_us)
            amount += float((weights * as_float(part.kind, block.matrix[part.rows["value"], valid])).sum())
            weight += float(weights.sum())
        if aggregate == "decayed_mean":
            return amount / weight if weight else None
        return amount if aggregate == "decayed_sum" else weight

    def _extreme(self, part: Part, aggregate: str, span: _Span) -> Any:
        found: list[tuple[int, Any]] = []  # the time of the last event that each may come from, and the value
        if self._summaries is not None:
            matrix = self._summaries.matrix[:, span.full]
            there = matrix[part.states["count"]] > 0
            values = natural(part.kind, matrix[part.states[aggregate], there], self._summaries.texts)
            found += zip(matrix[LAST_KNOWN, there].tolist(), values, strict=True)
        for block, start in zip(self._blocks, span.starts, strict=True):
            valid = block.marks[part.mark, start:].astype(bool)
            values = natural(part.kind, block.matrix[part.rows["value"], start:][valid], block.texts)
            found += zip(block.matrix[KNOWN, start:][valid].tolist(), values, strict=True)
        if aggregate == "last":
            latest = max(known for known, _ in found)
            return [value for known, value in found if known == latest][-1]  # one known-at is in one tile, in order
        values = [value for _, value in found]
        return min(values) if aggregate == "min" else max(values)

    def _sketches(self, part: Part, span: _Span) -> list[Any]:
        found = []
        if self._summaries is not None:
            found += self._summaries.sketches[part.sketch][span.full]
        for block, start in zip(self._blocks, span.starts, strict=True):
            valid = block.marks[part.mark, start:].astype(bool)
            found.append(block.matrix[part.rows["hash"], start:][valid].view(np.uint64))
        return found


def _value(kind: str, stored: Any) -> Value:
    if kind == "timestamp":
        return EPOCH + timedelta(microseconds=stored)
    return bool(stored) if kind == "bool" else stored
