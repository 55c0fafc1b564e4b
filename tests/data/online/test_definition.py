"""Definitions: as JSON and back, and places that do not overlap."""

from __future__ import annotations

import json

import pytest

from bedplate.data.online.contents import described
from bedplate.data.online.definition import FIRST_STATE, FIRST_VALUE, ViewDefinition, tile_us
from data import agreement

CONTENTS = described(agreement.FEATURES, {"events": (agreement.DATASET, agreement.table(agreement.history(1)[0]))})


@pytest.mark.parametrize("name", sorted(agreement.FEATURES))
def test_a_definition_is_the_same_after_json(name: str) -> None:
    view = CONTENTS.views[name]
    assert ViewDefinition.of(json.loads(json.dumps(view.to_json()))) == view


def test_every_number_has_a_place_of_its_own() -> None:
    parts = CONTENTS.views["w"].parts
    rows = [row for part in parts for row in part.rows.values()]
    states = [state for part in parts for state in part.states.values()]
    assert rows == [*range(FIRST_VALUE, FIRST_VALUE + len(rows))]
    assert states == [*range(FIRST_STATE, FIRST_STATE + len(states))]
    assert [part.sketch for part in parts] == [0, 1, 2, -1]


def test_an_integer_is_kept_once_for_its_sum_and_its_extremes() -> None:
    gain, bags, carrier, _ = CONTENTS.views["w"].parts
    assert set(gain.rows) == {"value", "quanta", "hash"}
    assert set(bags.rows) == set(carrier.rows) == {"value", "hash"}


def test_how_long_events_are_kept() -> None:
    assert [CONTENTS.views[name].kept_us for name in "wlt"] == [None, None, 2 * 3 * 3600 * 10**6]


def test_tiles_are_few_in_the_longest_window_and_in_the_span() -> None:
    day_us = 86_400_000_000
    assert 7 * day_us // tile_us(7 * day_us, 0) == 64
    assert 256 <= 365 * day_us // tile_us(7 * day_us, 365 * day_us) <= 257
    assert tile_us(0, 0) == 1_000_000
