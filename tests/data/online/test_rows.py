"""The packed rows of an entity: events in its head while they are few, tiles and summaries when they are many, and what is forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bedplate.core.errors import DataError
from bedplate.data.online.block import Block, decode
from bedplate.data.online.contents import described
from bedplate.data.online.definition import EVENT, KNOWN, LAST_KNOWN, NUMBER
from bedplate.data.online.events import events_of
from bedplate.data.online.rows import INLINE, decode_head, merged, touched_tiles
from data import agreement
from data.histories import START, Row

FOREVER = None


def event(number: int, hours: float) -> Row:
    """An event of one entity, known some hours after the start."""
    known = START + timedelta(hours=hours)
    values = {"carrier": "AA", "flight": number, "origin": "EWR", "slot": START, "gain": float(number), "bags": number}
    return values | {"happened_at": known, "_known_at": known, "_partition": 0, "_offset": number}


MANY = [event(number, number) for number in range(2 * INLINE)]
VIEWS = described(agreement.FEATURES, {"events": (agreement.DATASET, agreement.table(MANY))}).views


def block_of(name: str, rows: list[Row]) -> Block:
    return events_of(VIEWS[name], agreement.DATASET, agreement.table(rows)).of(0)


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_few_events_lie_in_the_head_and_many_in_tiles(name: str) -> None:
    view = VIEWS[name]
    few = merged(view, None, {}, block_of(name, MANY[:INLINE]), FOREVER)
    assert few.head is not None and not few.tiles
    assert decode_head(few.head).inline and decode_head(few.head).block.size == INLINE
    grown = merged(view, few.head, {}, block_of(name, MANY[INLINE:]), FOREVER)
    assert grown.head is not None and not decode_head(grown.head).inline
    assert sum(decode(body).size for body in grown.tiles.values()) == 2 * INLINE
    assert sorted(grown.tiles) == decode_head(grown.head).block.matrix[NUMBER].tolist()
    whole = merged(view, None, {}, block_of(name, MANY), FOREVER)
    assert (whole.head, whole.tiles) == (grown.head, grown.tiles), "bytes do not tell how they came about"


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_late_event_changes_its_own_tile_only(name: str) -> None:
    view = VIEWS[name]
    before = merged(view, None, {}, block_of(name, MANY[1:]), FOREVER)
    late = block_of(name, [event(0, 30)])
    numbers = touched_tiles(view, before.head, late)
    assert len(numbers) == 1
    after = merged(view, before.head, {number: before.tiles[number] for number in numbers}, late, FOREVER)
    assert list(after.tiles) == numbers
    assert decode(after.tiles[numbers[0]]).size == decode(before.tiles[numbers[0]]).size + 1
    assert after.head is not None and decode_head(after.head).newest_us == decode_head(before.head or b"").newest_us


def test_old_tiles_are_dropped_and_the_head_says_so() -> None:
    view = VIEWS["t"]
    whole = merged(view, None, {}, block_of("t", MANY), FOREVER)
    horizon_us = int(block_of("t", MANY).matrix[EVENT, 100])
    after = merged(view, whole.head, {}, block_of("t", [event(500, 2 * INLINE)]), horizon_us)
    assert after.head is not None
    head = decode_head(after.head)
    assert set(after.gone) == set(whole.tiles) - set(head.block.matrix[NUMBER].tolist()) != set()
    assert int(head.block.matrix[1 + EVENT].min()) >= horizon_us > head.gone_us
    gone = merged(view, whole.head, {}, block_of("t", [event(500, 0)]), 2**62)
    assert gone.head is None


def test_summaries_know_their_last_event() -> None:
    head = decode_head(merged(VIEWS["w"], None, {}, block_of("w", MANY), FOREVER).head or b"")
    assert head.newest_us == head.block.matrix[LAST_KNOWN, -1] == block_of("w", MANY).matrix[KNOWN, -1]


def test_another_layout_is_refused() -> None:
    head = merged(VIEWS["w"], None, {}, block_of("w", MANY[:2]), FOREVER).head
    assert head is not None
    with pytest.raises(DataError, match="another layout"):
        decode_head(b"\x07" + head[1:])
