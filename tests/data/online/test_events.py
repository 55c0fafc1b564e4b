"""Rows of a dataset as events of a view: which count, and in which order they stand."""

from __future__ import annotations

from bedplate.data.online.contents import described
from bedplate.data.online.definition import FIRST_VALUE, KNOWN, NEVER_US, ViewDefinition
from bedplate.data.online.events import Events, events_of
from bedplate.data.online.rows import ordered
from data import agreement

EVENTS = agreement.history(2, most=60)[0]
VIEWS = described(agreement.FEATURES, {"events": (agreement.DATASET, agreement.table(EVENTS))}).views


def made(view: ViewDefinition) -> Events:
    return events_of(view, agreement.DATASET, agreement.table(EVENTS))


def test_events_count_when_they_have_an_entity_and_a_known_time() -> None:
    counted = [event for event in EVENTS if event["origin"] is not None and event["_known_at"] is not None]
    assert made(VIEWS["w"]).block.size == len(counted)
    assert made(VIEWS["l"]).block.size == len([event for event in counted if event["happened_at"] is not None])
    assert made(VIEWS["w"]).entities == sorted({f'["{event["origin"]}"]' for event in counted})


def test_events_of_an_entity_are_in_the_order_of_a_tile() -> None:
    events = made(VIEWS["w"])
    for place in range(len(events.entities)):
        block = events.of(place)
        assert block.matrix.tolist() == ordered(block).matrix.tolist()
        assert sorted(block.matrix[KNOWN].tolist()) == block.matrix[KNOWN].tolist()


def test_an_event_without_an_event_time_has_the_least_one() -> None:
    missing = sum(1 for event in EVENTS if event["origin"] and event["_known_at"] and event["happened_at"] is None)
    assert int((made(VIEWS["w"]).block.matrix[1] == NEVER_US).sum()) == missing > 0


def test_nan_and_null_are_no_values() -> None:
    events = made(VIEWS["w"])
    gains = [event["gain"] for event in EVENTS if event["origin"] and event["_known_at"]]
    assert int(events.block.marks[0].sum()) == sum(1 for gain in gains if gain is not None and gain == gain)


def test_no_rows_are_no_events() -> None:
    events = events_of(VIEWS["w"], agreement.DATASET, agreement.table([]))
    assert (events.block.size, list(events.entities)) == (0, [])
    assert events.block.matrix.shape[0] == FIRST_VALUE + sum(len(part.rows) for part in VIEWS["w"].parts)
