"""The packed rows of one entity: its head and its tiles, made from events, and made again when more of them come.

An entity with few events has them all in its head. One with more has a tile a stretch of time, each in a row of its own, and a summary of
every tile in its head: a window is the tiles between its ends, from the head, and what lies beside them in the tiles at its ends. For an
as-of view the head begins with the best event of all, ready to be answered with.

    offset  bytes  what
    0       1      the layout's version, 1
    1       1      1 where the events are in the head, 0 where there are tiles
    2       2      length of the best event, 0 without one
    4       8      the latest known-at of the entity, microseconds
    12      8      what was known before this time may be gone: the windows that reach there cannot be answered
    20             the best event (`hot`), then a block: the events or the summaries

Does not know: stores, or what a query is (`answer`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bedplate.core.errors import DataError
from bedplate.core.spec import ColumnType
from bedplate.data.keys import Ints
from bedplate.data.online.block import VERSION, Block, decode, joined
from bedplate.data.online.definition import (
    DECAYED,
    EVENT,
    FIRST_STATE,
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
from bedplate.data.online.sketch import smallest

INLINE = 64  # events in a head
HEAD = struct.Struct("<BBHqq")
IDENTITY = struct.Struct("<4q")


@dataclass(frozen=True)
class Head:
    """A decoded head. `block` holds the events where `inline`, else the summaries of the tiles, by their number."""

    inline: bool
    newest_us: int
    gone_us: int
    block: Block


@dataclass(frozen=True)
class Packed:
    """What is to be written of one entity: its head (None: it is gone), tiles by number, and the numbers of tiles that are gone."""

    head: bytes | None
    tiles: Mapping[int, bytes]
    gone: Sequence[int]


def decode_head(body: bytes) -> Head:
    """A head's bytes. Raises DataError for another layout's version."""
    version, inline, hot, newest_us, gone_us = HEAD.unpack_from(body)
    if version != VERSION:
        raise DataError("a row of the online store has another layout", value=version, fix="run the endpoint's features step again")
    return Head(bool(inline), newest_us, gone_us, decode(body, HEAD.size + hot))


def ordered(block: Block) -> Block:
    """Events in the order of a tile."""
    known, event, partition, offset = block.matrix[:FIRST_VALUE]
    return block.take(np.lexsort((offset, partition, event, known)))


def touched_tiles(view: ViewDefinition, head: bytes | None, new: Block) -> list[int]:
    """The numbers of the tiles that must be read before `new` events can be added."""
    if head is None or head[1]:
        return []
    numbers: list[int] = np.unique(new.matrix[KNOWN] // view.tile_us).tolist()
    return numbers


def merged(view: ViewDefinition, head: bytes | None, tiles: Mapping[int, bytes], new: Block, horizon_us: int | None) -> Packed:
    """The entity's rows with `new` events, which it has none of. `tiles` are those of `touched_tiles` that there are.

    What was known before `horizon_us` is dropped, tile by tile.
    """
    before = decode_head(head) if head is not None else None
    gone_us = before.gone_us if before else NEVER_US
    if before is None or before.inline:
        events = new if before is None else ordered(joined(before.block, new, view.text_rows))
        if horizon_us is not None:
            age = events.matrix[view.aged]
            gone_us = max(gone_us, int(age[age < horizon_us].max(initial=NEVER_US)))
            events = events.take(age >= horizon_us)
        if not events.size:
            return Packed(None, {}, ())
        if events.size <= INLINE:
            return Packed(_head(view, True, int(events.matrix[KNOWN, -1]), gone_us, _best(view, events), events), {}, ())
        changed = _split(view, events)
        summaries = _stacked(view, changed)
    else:
        parts = _split(view, new)
        changed = {
            number: ordered(joined(decode(tiles[number]), part, view.text_rows)) if number in tiles else part
            for number, part in parts.items()
        }
        others = before.block.take(~np.isin(before.block.matrix[NUMBER], np.array(list(changed), np.int64)))
        summaries = joined(others, _stacked(view, changed), view.summary_text_rows)
        summaries = summaries.take(np.argsort(summaries.matrix[NUMBER], kind="stable"))
    gone: list[int] = []
    if horizon_us is not None:
        age = summaries.matrix[1 + EVENT if view.kind == "asof" else LAST_KNOWN]
        gone = summaries.matrix[NUMBER, age < horizon_us].tolist()
        gone_us = max(gone_us, int(age[age < horizon_us].max(initial=NEVER_US)))
        summaries = summaries.take(age >= horizon_us)
    if not summaries.size:
        return Packed(None, {}, gone)
    written = {number: block.encode(view.text_rows) for number, block in changed.items() if number not in set(gone)}
    newest_us = int(summaries.matrix[LAST_KNOWN].max()) if view.kind == "windowed" else int(summaries.matrix[1 + KNOWN].max())
    if before is not None:
        newest_us = max(newest_us, before.newest_us)
    return Packed(_head(view, False, newest_us, gone_us, _best_summary(view, summaries), summaries), written, gone)


def _split(view: ViewDefinition, events: Block) -> dict[int, Block]:
    numbers = events.matrix[KNOWN] // view.tile_us
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    ends = [*starts[1:].tolist(), events.size]
    return {int(numbers[start]): events.take(slice(start, end)) for start, end in zip(starts.tolist(), ends, strict=True)}


def _head(view: ViewDefinition, inline: bool, newest_us: int, gone_us: int, hot: bytes, block: Block) -> bytes:
    rows = view.text_rows if inline else view.summary_text_rows
    return HEAD.pack(VERSION, inline, len(hot), newest_us, gone_us) + hot + block.encode(rows)


def _stacked(view: ViewDefinition, tiles: Mapping[int, Block]) -> Block:
    """The summaries of tiles, one column each."""
    texts: dict[str, int] = {}
    made = [_summary(view, number, block, texts) for number, block in tiles.items()]
    matrix = np.array([column for column, _, _ in made], np.int64).T
    marks = np.array([marks for _, marks, _ in made], np.uint8).T
    sketches = tuple(tuple(sketch[place] for _, _, sketch in made) for place in range(len(made[0][2])))
    return Block(matrix, marks.reshape(-1, len(made)), tuple(texts), sketches)


def _summary(view: ViewDefinition, number: int, block: Block, texts: dict[str, int]) -> tuple[list[int], list[int], list[Any]]:
    """One column of a summary: its numbers, its marks (of an as-of view) and its sketches."""
    if view.kind == "asof":
        best = best_of(block.matrix)
        column = block.matrix[:, best].tolist()
        for row in view.text_rows:
            column[row] = texts.setdefault(block.texts[column[row]], len(texts)) if column[row] >= 0 else -1
        return [number, *column], block.marks[:, best].tolist(), []
    column = [number, int(block.matrix[KNOWN, -1])]
    sketches = []
    for part in view.parts:
        valid = block.marks[part.mark].astype(bool)
        column += _state(view, part, block, valid, texts)
        if part.sketch >= 0:
            sketches.append(smallest(block.matrix[part.rows["hash"], valid].view(np.uint64)))
    return column, [], sketches


def _state(view: ViewDefinition, part: Part, block: Block, valid: Any, texts: dict[str, int]) -> list[int]:
    count = int(valid.sum())
    state = [count]
    if "total" in part.states:
        state.append(int(block.matrix[part.rows.get("quanta", part.rows.get("value", 0)), valid].sum()))
    if any(name in part.states for name in ("min", "max", "last")):
        row = block.matrix[part.rows["value"], valid]
        values = natural(part.kind, row, block.texts)
        for name, pick in (("min", min), ("max", max), ("last", _last)):
            if name in part.states:
                state.append(_stored(part.kind, pick(values), texts) if count else -1)
    if set(DECAYED) & set(part.aggregates):
        known = block.matrix[KNOWN]
        values = as_float(part.kind, block.matrix[part.rows["value"], valid])
        for _, half_life_us in view.half_lives:
            weights = np.exp2(-(known[-1] - known[valid]) / half_life_us)
            state += np.array([(weights * values).sum(), weights.sum()]).view(np.int64).tolist()
    return state


def _last(values: Sequence[Any]) -> Any:
    return values[-1]


def natural(kind: ColumnType, row: Ints, texts: Sequence[str]) -> list[Any]:
    """Stored numbers as values: floats, texts, or integers (also times, in microseconds, and bools)."""
    if kind == "float":
        row = np.ascontiguousarray(row).view(np.float64)
    values: list[Any] = row.tolist()
    return [texts[place] if place >= 0 else None for place in values] if kind == "string" else values


def as_float(kind: ColumnType, row: Ints) -> Any:
    """Stored numbers as float64."""
    return np.ascontiguousarray(row).view(np.float64) if kind == "float" else row.astype(np.float64)


def _stored(kind: ColumnType, value: Any, texts: dict[str, int]) -> int:
    if kind == "string":
        return texts.setdefault(value, len(texts))
    return int(np.float64(value).view(np.int64)) if kind == "float" else int(value)


def best_of(identities: Ints) -> int:
    """The column with the greatest (event time, known-at, partition, offset)."""
    order = np.lexsort((identities[OFFSET_AT], identities[PARTITION_AT], identities[KNOWN], identities[EVENT]))
    return int(order[-1])


def _best(view: ViewDefinition, events: Block) -> bytes:
    if view.kind != "asof":
        return b""
    best = best_of(events.matrix)
    return hot(view, events.matrix[:, best].tolist(), events.marks[:, best].tolist(), events.texts)


def _best_summary(view: ViewDefinition, summaries: Block) -> bytes:
    if view.kind != "asof":
        return b""
    best = best_of(summaries.matrix[1:])
    return hot(view, summaries.matrix[1:, best].tolist(), summaries.marks[:, best].tolist(), summaries.texts)


@cache
def hot_layout(kinds: tuple[ColumnType, ...]) -> struct.Struct:
    """How the best event of an as-of view is packed: its identity, its marks, a number for each value (of a text: its length)."""
    return struct.Struct(f"<4q{len(kinds)}s" + "".join("d" if kind == "float" else "q" for kind in kinds))


def hot(view: ViewDefinition, column: Sequence[int], marks: Sequence[int], texts: Sequence[str]) -> bytes:
    """The best event, packed."""
    kinds = tuple(kind for _, kind in view.values)
    numbers: list[int | float] = []
    tail = []
    for kind, number in zip(kinds, column[FIRST_VALUE:], strict=True):
        if kind == "string":
            text = texts[number].encode() if number >= 0 else b""
            tail.append(text)
            numbers.append(len(text))
        else:
            numbers.append(float(np.int64(number).view(np.float64)) if kind == "float" else number)
    body = hot_layout(kinds).pack(*column[:FIRST_VALUE], bytes(marks), *numbers)
    return body + b"".join(tail)


assert FIRST_STATE == 2  # `_summary` writes two numbers before the states
