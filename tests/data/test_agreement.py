"""One definition, three ways: what is computed offline, what is streamed and what is built say the same of any history.

`make soak` compares ten thousand seeds (`python tests/data/test_agreement.py 0 10000`), the tests a few of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.features import materialize
from bedplate.data.join import join
from bedplate.data.online.store import Asked
from data import agreement
from data.histories import KEY, Row

SEEDS, TOGETHER = 300, 100


def offline(folder: Path, spine: Sequence[Row], events: Sequence[Row]) -> list[Row]:
    """The features of the spine's rows from the join."""
    made = [materialize(name, each, agreement.DATASET, agreement.table(events), folder / name) for name, each in agreement.FEATURES.items()]
    asked = [{**row, "bags": place} for place, row in enumerate(spine)]  # the join keeps the order, but `table` sorts by offset
    names = [name for view in made for name, _ in view.columns]
    joined = join(agreement.table(asked), "_known_at", made, KEY)
    by_place: list[Any] = [None] * len(spine)
    for place, values in zip(joined.column("bags").to_pylist(), joined.select(names).to_pylist(), strict=True):
        by_place[place] = values
    return by_place


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_offline_streaming_and_online_agree(first: int) -> None:
    assert agreement.check(range(first, first + TOGETHER), offline) > 0


@pytest.mark.parametrize("change", ["value", "time", "lost"])
def test_a_difference_is_found(change: str) -> None:
    found = 0
    for seed in range(20):
        events, spine = agreement.history(seed)
        said = agreement.reference(spine, events)
        for event in events[-1:]:
            if change == "value":
                event["gain"], event["bags"] = 3.25, 10_000
            elif change == "time" and event["_known_at"] is not None:
                event["_known_at"] += agreement.timedelta(microseconds=-7_200_000_001)
        other = agreement.reference(spine, events[:-1] if change == "lost" else events)
        try:
            agreement.assert_agree(other, said, "changed")
        except AssertionError:
            found += 1
    assert found > 0


def test_more_distinct_values_than_a_sketch_holds_are_one_estimate(tmp_path: Path) -> None:
    events = [_event(number, place) for place, number in enumerate([*range(3000), *range(500)])]
    asked = Asked("w", {"origin": "EWR"}, events[-1]["_known_at"])
    stores = {name: SqliteEngine.create(tmp_path / f"{name}.db") for name in ("online", "streaming")}
    built, streaming = (agreement._built(engine, "", events[: 3500 if name == "online" else 900], 0, 0) for name, engine in stores.items())
    for end in (1000, 2000, 3500):
        streaming.apply("events", agreement.table(events[:end]), 0)
    (one,), (other,) = built.read([asked]), streaming.read([asked])
    assert one == other
    assert abs(one["w__bags__distinct__2d"] - 3000) < 0.2 * 3000
    assert one["w__carrier__distinct__2d"] == 1
    built.close()
    streaming.close()


def _event(number: int, place: int) -> Row:
    known = agreement.START + agreement.timedelta(seconds=20 * place)
    return {
        "carrier": "AA",
        "flight": place,
        "origin": "EWR",
        "slot": known,
        "gain": 0.5,
        "bags": number,
        "happened_at": known,
        "_known_at": known,
        "_partition": 0,
        "_offset": place,
    }


def main(first: int, end: int) -> None:
    """Compare a range of seeds and say how many values were compared; a seed that differs is named."""
    begun_s, compared = time.monotonic(), 0
    for start in range(first, end, TOGETHER):
        compared += agreement.check(range(start, min(end, start + TOGETHER)), offline)
        if start % 500 == 0 or start + TOGETHER >= end:
            print(
                f"seeds {first} to {min(end, start + TOGETHER) - 1}: {compared} values agree, {time.monotonic() - begun_s:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
