"""The join against a slow reference, and against leaks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Feature
from bedplate.data.features import View, materialize
from bedplate.data.join import join
from data.histories import ASOF, DATASET, KEY, START, TIME, WINDOWED, Row, assert_no_leak, histories, plain, reference, spines, table

BASE: Row = dict.fromkeys(["carrier", "flight", "origin", "slot", "gain", "bags", "happened_at", "_known_at"]) | {"_partition": 0}


def event(minutes: float, **values: Any) -> Row:
    """An event of EWR, known and happened some minutes after the start."""
    moment = START + timedelta(minutes=minutes)
    return BASE | {"carrier": "AA", "flight": 1, "origin": "EWR", "slot": START, "happened_at": moment, "_known_at": moment} | values


def views(folder: Path, events: pa.Table, dataset: Dataset = DATASET) -> list[View]:
    """Both kinds of view over the events."""
    return [materialize("w", WINDOWED, dataset, events, folder / "w"), materialize("l", ASOF, dataset, events, folder / "l")]


def featured(spine: Sequence[Row], events: Sequence[Row], own: Sequence[str] = KEY) -> list[Row]:
    """The features of each row of the spine."""
    return joined(spine, events, [own])[0]


def joined(spine: Sequence[Row], events: Sequence[Row], owns: Sequence[Sequence[str]]) -> list[list[Row]]:
    """The same for several keys of the spine, from one materialisation."""
    with tempfile.TemporaryDirectory() as folder:
        made = views(Path(folder), table(events))
        names = [name for view in made for name, _ in view.columns]
        return [join(table(spine), "_known_at", made, own).select(names).to_pylist() for own in owns]


@settings(max_examples=60, deadline=None)
@given(spines, histories)
def test_equals_the_reference(spine: list[Row], events: list[Row]) -> None:
    rows, known = table(spine).to_pylist(), table(events).to_pylist()
    owns = (KEY, ())
    for own, made in zip(owns, joined(spine, events, owns), strict=True):
        for row, features in zip(rows, made, strict=True):
            expected = reference("w", WINDOWED, row, known, own) | reference("l", ASOF, row, known, own)
            assert plain(features) == plain(expected)


@settings(max_examples=20, deadline=None)
@given(spines, histories)
def test_the_spine_comes_back_whole(spine: list[Row], events: list[Row]) -> None:
    before = table(spine)
    with tempfile.TemporaryDirectory() as folder:
        made = join(before, "_known_at", views(Path(folder), table(events)), KEY)
    kept = made.select(before.column_names)
    assert kept.schema == before.schema
    assert [plain(row) for row in kept.to_pylist()] == [plain(row) for row in before.to_pylist()]


@settings(max_examples=8, deadline=None)
@given(spines, histories)
def test_no_row_sees_what_it_may_not(spine: list[Row], events: list[Row]) -> None:
    ordered = table(spine).to_pylist()
    assert_no_leak(lambda known: featured(ordered, [dict(row) for row in known]), ordered, events, KEY)


LATE = [event(0, gain=1.0, happened_at=START), event(60, flight=2, gain=5.0, happened_at=START - timedelta(hours=1))]


def test_the_leak_check_catches_a_join_by_event_time() -> None:
    spine = [event(30, flight=9)]

    def by_event_time(events: Sequence[Row]) -> list[Row]:
        return featured(spine, [row | {"_known_at": row["happened_at"]} for row in events])

    assert_no_leak(lambda events: featured(spine, events), spine, LATE, KEY)
    with pytest.raises(AssertionError, match="may not see"):
        assert_no_leak(by_event_time, spine, LATE, KEY)


def test_the_leak_check_catches_a_row_that_sees_its_own_label() -> None:
    spine = [event(30, flight=1)]
    assert_no_leak(lambda events: featured(spine, events), spine, LATE, KEY)
    with pytest.raises(AssertionError, match="may not see"):
        assert_no_leak(lambda events: featured(spine, events, own=()), spine, LATE, KEY)


def test_moving_known_at_into_the_future_changes_the_features() -> None:
    spine = [event(30, flight=9)]
    now, later = featured(spine, LATE)[0], featured(spine, [event(31, gain=1.0), LATE[1]])[0]
    assert (now["w__gain__count__1h"], now["w__gain__mean__1h"], now["l__gain"]) == (1, 1.0, 1.0)
    assert (later["w__gain__count__1h"], later["w__gain__mean__1h"], later["l__gain"]) == (0, None, None)


def test_a_window_is_open_at_its_start_and_closed_at_its_end() -> None:
    events = [
        event(0, flight=2, gain=1.0),
        event(1 / 60, flight=2, gain=10.0),
        event(60, flight=2, gain=100.0),
        event(61, flight=2, gain=9e3),
    ]
    assert featured([event(60, flight=9)], events)[0]["w__gain__sum__1h"] == 110.0


def test_a_window_across_the_clock_change_is_as_long_as_any() -> None:
    change = datetime(2013, 11, 3, 6, tzinfo=UTC)
    events = [event(0, flight=2, gain=1.0, _known_at=change - timedelta(minutes=minutes)) for minutes in (10, 29, 31)]
    made = featured([event(0, flight=9, _known_at=change + timedelta(minutes=60))], events)[0]
    assert (made["w__gain__count__1h"], made["w__gain__count__90m"]) == (0, 2)


def test_an_unknown_entity_counts_nothing_and_a_null_one_is_unknown() -> None:
    made = featured([event(30, origin="SFO"), event(30, origin=None), event(30, _known_at=None)], LATE)
    assert [row["w__gain__count__1h"] for row in made] == [0, None, None]
    assert [row["w__gain__mean__1h"] for row in made] == [None, None, None]
    assert [row["l__gain"] for row in made] == [None, None, None]


def test_of_late_news_the_latest_event_counts() -> None:
    events = [event(0, flight=2, gain=1.0), event(10, flight=3, gain=2.0, happened_at=START - timedelta(days=1))]
    assert featured([event(20, flight=9)], events)[0]["l__gain"] == 1.0


def test_a_correction_replaces_an_event_of_the_same_time() -> None:
    events = [event(0, flight=2, gain=1.0), event(10, flight=2, gain=2.0, happened_at=START)]
    assert [row["l__gain"] for row in featured([event(5, flight=9), event(10, flight=9)], events)] == [1.0, 2.0]


def test_behind_an_own_row_is_the_latest_of_another_key() -> None:
    events = [event(0, flight=2, gain=5.0), event(5, gain=1.0), event(10, gain=2.0), event(3, flight=3, gain=4.0)]
    made = featured([event(20), event(20, flight=3), event(20, flight=None)], events)
    assert [row["l__gain"] for row in made] == [4.0, 2.0, 2.0]


def test_a_row_that_is_alone_sees_nothing() -> None:
    assert featured([event(20)], [event(0, gain=1.0), event(5, gain=2.0)])[0]["l__gain"] is None


def test_the_order_of_the_key_columns_does_not_matter() -> None:
    spine = [event(30)]
    assert featured(spine, LATE, ("flight", "carrier")) == featured(spine, LATE, KEY)
    assert featured(spine, LATE, KEY)[0]["w__gain__count__1h"] == 0


def test_a_dataset_with_another_key_is_seen_whole(tmp_path: Path) -> None:
    other = DATASET.model_copy(update={"key": ("carrier",)})
    made = join(table([event(30)]), "_known_at", views(tmp_path, table(LATE), other), KEY)
    assert made.column("w__gain__count__1h").to_pylist() == [1]


def test_a_spine_without_the_entity_is_refused(tmp_path: Path) -> None:
    spine = table([event(30)]).rename_columns(["carrier", "flight", "origins", *table([]).column_names[3:]])
    with pytest.raises(DataError, match=r"departures has no such column \(got 'origin'\).*'origins'"):
        join(spine, "_known_at", views(tmp_path, table(LATE)), KEY, "departures")


def test_an_entity_of_another_type_is_refused(tmp_path: Path) -> None:
    spine = table([event(30)])
    spine = spine.set_column(2, "origin", pa.array([7]))
    with pytest.raises(DataError, match=r"spine\.origin has another type .*string"):
        join(spine, "_known_at", views(tmp_path, table(LATE)))


def test_a_time_must_be_a_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"spine\.bags is no time"):
        join(table([event(30)]), "bags", views(tmp_path, table(LATE)))


def test_a_column_with_the_name_of_a_feature_is_refused(tmp_path: Path) -> None:
    spine = table([event(30)]).append_column("l__gain", pa.array([1.0]))
    with pytest.raises(DataError, match="name of a feature"):
        join(spine, "_known_at", views(tmp_path, table(LATE)))


def test_strings_of_any_arrow_kind_are_the_same_entity(tmp_path: Path) -> None:
    spine = table([event(30, flight=9)])
    coded = spine.set_column(2, "origin", spine.column("origin").dictionary_encode())
    large = spine.set_column(2, "origin", spine.column("origin").cast(pa.large_string()))
    made = views(tmp_path, table(LATE))
    assert [join(each, "_known_at", made).column("l__gain").to_pylist() for each in (spine, coded, large)] == [[1.0]] * 3


def test_many_wide_keys_do_not_run_out_of_codes(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(8)]
    columns: dict[str, Any] = {name: pa.array([f"{row * (number + 1) % 997}" for row in range(997)]) for number, name in enumerate(names)}
    columns |= {"x": pa.array(range(997)), "_known_at": pa.array([START] * 997, TIME)}
    columns |= {"_partition": pa.array([0] * 997), "_offset": pa.array(range(997))}
    events = pa.table(columns)
    feature = Feature.model_validate({"from": "events", "entity": names, "windows": ["1h"], "aggregates": {"x": ["sum"]}})
    view = materialize("w", feature, Dataset(source="log://events"), events, tmp_path)
    assert join(events, "_known_at", [view]).column("w__x__sum__1h").to_pylist() == list(range(997))


EVERYTHING = Feature.model_validate(
    {
        "from": "events",
        "entity": "origin",
        "windows": ["90m", "2d"],
        "half_lives": ["45m"],
        "aggregates": {
            "gain": ["min", "max", "last", "decayed_count"],
            "carrier": ["min", "last", "distinct"],
            "bags": ["max", "distinct"],
        },
    }
)


@settings(max_examples=25, deadline=None)
@given(spines, histories)
def test_no_aggregate_sees_what_it_may_not(spine: list[Row], events: list[Row]) -> None:
    ordered = table(spine).to_pylist()

    def featured(known: Sequence[Row]) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            view = materialize("e", EVERYTHING, DATASET, table([dict(row) for row in known]), Path(folder))
            names = [name for name, _ in view.columns]
            made = join(table(spine), "_known_at", [view], KEY).select(names).to_pylist()
        return [{name: round(value, 9) if "decayed" in name and value else value for name, value in plain(row).items()} for row in made]

    assert_no_leak(featured, ordered, table(events).to_pylist(), KEY)


def asked_at(folder: Path, feature: Feature, events: Sequence[Row], minutes: Sequence[float], dataset: Dataset = DATASET) -> list[Row]:
    """What rows of EWR at these minutes are told."""
    view = materialize("f", feature, dataset, table(events), folder)
    spine = [arrival(flight=99, minutes=minute) for minute in minutes]
    return join(table(spine), "_known_at", [view], KEY).select([name for name, _ in view.columns]).to_pylist()


def arrival(flight: int, minutes: float, happened: float | None = None, bags: int | None = None) -> Row:
    """An event of EWR, known some minutes after the start; it happened then too, unless told otherwise."""
    known = START + timedelta(minutes=minutes)
    at = known if happened is None else START + timedelta(minutes=happened)
    row = {"carrier": "AA", "flight": flight, "origin": "EWR", "slot": START, "gain": None, "bags": bags, "happened_at": at}
    return row | {"_known_at": known, "_partition": 0}


@pytest.mark.parametrize("key", [KEY, ()])
def test_a_late_event_does_not_take_the_place_of_what_happened_after_it(tmp_path: Path, key: tuple[str, ...]) -> None:
    events = [arrival(1, 0, bags=1), arrival(2, 20, happened=20, bags=2), arrival(3, 30, happened=10, bags=3)]
    feature = Feature.model_validate({"from": "events", "entity": "origin", "columns": ["bags"]})
    dataset = DATASET.model_copy(update={"key": key})
    assert [row["f__bags"] for row in asked_at(tmp_path, feature, events, [-1, 5, 25, 40], dataset)] == [None, 1, 2, 2]


@pytest.mark.parametrize("key", [KEY, ()])
def test_a_value_that_outlived_its_time_is_null(tmp_path: Path, key: tuple[str, ...]) -> None:
    feature = Feature.model_validate({"from": "events", "entity": "origin", "columns": ["bags"], "ttl": "1h"})
    dataset = DATASET.model_copy(update={"key": key})
    found = asked_at(tmp_path, feature, [arrival(1, 30, happened=0, bags=7)], [29, 30, 60, 60.001], dataset)
    assert [row["f__bags"] for row in found] == [None, 7, 7, None]


def test_extremes_of_an_empty_window_are_null_and_counts_are_zero(tmp_path: Path) -> None:
    feature = Feature.model_validate(
        {"from": "events", "entity": "origin", "windows": ["10m"], "aggregates": {"bags": ["min", "last", "distinct", "count"]}}
    )
    inside, outside = asked_at(tmp_path, feature, [arrival(1, 0, bags=3), arrival(2, 5, bags=3)], [9, 60])
    assert list(inside.values()) == [3, 3, 1, 2]
    assert list(outside.values()) == [None, None, 0, 0]


def test_many_rows_join_as_duckdb_does(tmp_path: Path) -> None:
    count, draw = 150_000, np.random.default_rng(8)
    at = draw.permutation(count) * 10  # no two at once: what ASOF takes then is not said
    system = {"_partition": np.zeros(count, np.int32), "_offset": np.arange(count)}
    events = pa.table({"e": draw.integers(0, 900, count), "_known_at": pa.array(at, TIME), "x": draw.random(count), **system})
    spine = pa.table({"e": draw.integers(0, 1000, count), "_known_at": pa.array(draw.integers(0, 10 * count, count), TIME)})
    feature = Feature.model_validate({"from": "events", "entity": "e", "columns": ["x"]})
    made = join(spine, "_known_at", [materialize("f", feature, Dataset(source="log://events"), events, tmp_path)])
    numbered = spine.append_column("row", pa.array(range(count)))  # duckdb's rows are in no certain order
    asof = "select row, x from numbered s asof left join events e on s.e = e.e and s._known_at >= e._known_at order by row"
    with duckdb.connect() as connection:
        connection.register("numbered", numbered)
        connection.register("events", events)
        assert made.column("f__x").to_pylist() == [row[1] for row in connection.execute(asof).fetchall()]
