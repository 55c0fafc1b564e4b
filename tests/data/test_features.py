"""Feature views: what they hold, that equal content has one digest, and what cannot be one."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from bedplate.core.errors import BedplateError, DataError, NotFound
from bedplate.core.spec import Dataset, Feature
from bedplate.data.features import columns_of, materialize, open_view, quanta
from bedplate.data.join import join
from data.histories import ASOF, DATASET, START, TIME, WINDOWED, Row, histories, table

PLAIN = Dataset(source="log://events")


def events(**columns: Any) -> pa.Table:
    """Events of one entity `e`, known a minute apart, with these columns."""
    rows = len(next(iter(columns.values())))
    known = pa.array([START + timedelta(minutes=minute) for minute in range(rows)], TIME)
    zeros, numbers = pa.array([0] * rows, pa.int64()), pa.array(range(rows), pa.int64())
    return pa.table({"e": pa.array(["x"] * rows)} | columns | {"_known_at": known, "_partition": zeros, "_offset": numbers})


def feature(**aggregates: list[str]) -> Feature:
    """A feature with one wide window."""
    return Feature.model_validate({"from": "events", "entity": "e", "windows": ["1d"], "aggregates": aggregates})


def last_value(made: Feature, cut: pa.Table, folder: Path, column: str) -> Any:
    """The value of an output column at the last row of the cut itself."""
    view = materialize("f", made, PLAIN, cut, folder)
    return join(cut, "_known_at", [view]).column(column)[-1].as_py()


def test_names_and_types_of_the_outputs(tmp_path: Path) -> None:
    view = materialize("route_gain", WINDOWED, DATASET, table([]), tmp_path / "w")
    assert view.columns[:3] == (
        ("route_gain__gain__mean__1h", "float"),
        ("route_gain__gain__mean__90m", "float"),
        ("route_gain__gain__mean__2d", "float"),
    )
    types = dict(view.columns)
    assert (types["route_gain__gain__count__1h"], types["route_gain__gain__sum__1h"]) == ("int", "float")
    assert (types["route_gain__bags__sum__1h"], types["route_gain__bags__mean__1h"]) == ("int", "float")
    asof = materialize("last", ASOF, DATASET, table([]), tmp_path / "l")
    assert asof.columns == (("last__gain", "float"), ("last__bags", "int"), ("last__carrier", "string"), ("last__happened_at", "timestamp"))


def test_the_join_gives_the_types_that_the_view_tells(tmp_path: Path) -> None:
    arrow = {"int": pa.int64(), "float": pa.float64(), "string": pa.string(), "timestamp": TIME}
    for name, declared in {"w": WINDOWED, "l": ASOF}.items():
        view = materialize(name, declared, DATASET, table([]), tmp_path / name)
        made = join(table([]), "_known_at", [view])
        assert [made.schema.field(column).type for column, _ in view.columns] == [arrow[kind] for _, kind in view.columns]


def test_an_opened_view_is_the_one_that_was_made(tmp_path: Path) -> None:
    made = materialize("f", feature(gain=["mean"]), PLAIN, events(gain=[1.0, 2.0]), tmp_path)
    assert open_view(tmp_path) == made
    assert (made.kind, made.dataset, made.entity, made.rows) == ("windowed", "events", ("e",), 2)
    assert made.cut == {"rows": 2, "ends": {"0": 1}}


@settings(max_examples=12, deadline=None)
@given(histories)
def test_the_digest_depends_on_the_content_alone(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    cut = table(rows)
    order = list(range(len(rows)))
    random.Random(7).shuffle(order)
    pieces = pa.concat_tables([cut.take([place]) for place in order]) if order else cut
    for name, declared in {"w": WINDOWED, "l": ASOF}.items():
        folder = tmp_path_factory.mktemp("view")
        assert (
            materialize(name, declared, DATASET, cut, folder / "a").digest
            == materialize(name, declared, DATASET, pieces, folder / "b").digest
        )


def test_the_digest_changes_with_a_value_and_with_the_definition(tmp_path: Path) -> None:
    one = materialize("f", feature(gain=["mean"]), PLAIN, events(gain=[1.0, 2.0]), tmp_path / "1")
    value = materialize("f", feature(gain=["mean"]), PLAIN, events(gain=[1.0, 3.0]), tmp_path / "2")
    definition = materialize("f", feature(gain=["sum"]), PLAIN, events(gain=[1.0, 2.0]), tmp_path / "3")
    assert len({one.digest, value.digest, definition.digest}) == 3


def test_integers_are_summed_exactly(tmp_path: Path) -> None:
    assert last_value(feature(n=["sum"]), events(n=[2**53, 1, 2**53, 1]), tmp_path, "f__n__sum__1d") == 2**54 + 2


def test_floats_are_summed_in_quanta(tmp_path: Path) -> None:
    cut = events(x=[0.1] * 3 + [1e9, -1e9])
    assert last_value(feature(x=["sum"]), cut, tmp_path / "a", "f__x__sum__1d") == 0.3
    assert last_value(feature(x=["sum"]), events(x=[0.4e-6] * 5), tmp_path / "b", "f__x__sum__1d") == 0.0


def test_quanta_round_half_to_even() -> None:
    assert quanta(pa.array([0.5e-6, 1.5e-6, -2.5e-6, 3.0]).to_numpy(), "x").tolist() == [0, 2, -2, 3_000_000]


def test_nulls_and_nan_are_not_counted(tmp_path: Path) -> None:
    cut = events(x=[1.0, None, float("nan"), 4.0])
    assert last_value(feature(x=["count"]), cut, tmp_path / "a", "f__x__count__1d") == 2
    assert last_value(feature(x=["mean"]), cut, tmp_path / "b", "f__x__mean__1d") == 2.5


def test_bools_are_summed_as_numbers(tmp_path: Path) -> None:
    assert last_value(feature(late=["mean"]), events(late=[True, False, None, True]), tmp_path, "f__late__mean__1d") == 2 / 3


@pytest.mark.parametrize("value", [1e13, float("inf"), -1e300])
def test_a_float_that_does_not_fit_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match=r"events\.x is too large to be summed exactly \(got .*larger unit"):
        materialize("f", feature(x=["sum"]), PLAIN, events(x=[1.0, value]), tmp_path)
    assert not (tmp_path / "view.json").exists()


def test_a_sum_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves 64 bits"):
        materialize("f", feature(n=["sum"]), PLAIN, events(n=[2**62, 2**62, -(2**62)]), tmp_path)


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events has no such column \(got 'gian'\)\. Fix: did you mean 'gain'\?"):
        materialize("f", feature(gian=["sum"]), PLAIN, events(gain=[1.0]), tmp_path)


def test_strings_cannot_be_summed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.e is no number"):
        materialize("f", feature(e=["sum"]), PLAIN, events(gain=[1.0]), tmp_path)


def test_a_float_is_no_entity(tmp_path: Path) -> None:
    by_float = feature(gain=["sum"]).model_copy(update={"entity": ("gain",)})
    with pytest.raises(DataError, match=r"float can be no part of a key or entity \(got 'events\.gain'\)"):
        materialize("f", by_float, PLAIN, events(gain=[1.0]), tmp_path)


def test_bools_and_integers_can_be_entities(tmp_path: Path) -> None:
    cut = events(gain=[1.0, 2.0, 4.0, 8.0], flag=[True, False, True, None], number=[3, 3, 3, 3])
    by_both = feature(gain=["sum"]).model_copy(update={"entity": ("flag", "number")})
    view = materialize("f", by_both, PLAIN, cut, tmp_path)
    assert join(cut, "_known_at", [view]).column("f__gain__sum__1d").to_pylist() == [1.0, 2.0, 5.0, None]


def test_a_type_that_no_dataset_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.gain has a type that features cannot hold \(got 'binary'\)"):
        materialize("f", feature(gain=["sum"]), PLAIN, events(gain=pa.array([b"x"])), tmp_path)


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    view = materialize("f", feature(gain=["mean"]), PLAIN, events(gain=[1.0, 2.0]), tmp_path)
    path = tmp_path / "prefix.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BedplateError, match=r"damaged \(got '.*prefix\.arrow'\)"):
        join(events(gain=[1.0]), "_known_at", [view])


def test_a_folder_without_a_sidecar_is_no_view(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no feature view"):
        open_view(tmp_path)


def test_a_view_reads_the_columns_that_it_names_and_no_others(tmp_path: Path) -> None:
    for name, declared in {"w": WINDOWED, "l": ASOF}.items():
        needed = columns_of(declared, DATASET)
        assert needed[-3:] == ["_known_at", "_partition", "_offset"]
        cut = table([])
        narrow, whole = (
            materialize(name, declared, DATASET, each, tmp_path / name / str(place))
            for place, each in enumerate((cut.select(needed), cut.append_column("other", pa.nulls(0, pa.string()))))
        )
        assert narrow.digest == whole.digest
        with pytest.raises(DataError, match="no such column"):
            materialize(name, declared, DATASET, cut.drop_columns(["_known_at"]), tmp_path / name / "without")


def test_rows_that_come_out_of_order_are_told_apart_by_their_offsets(tmp_path: Path) -> None:
    cut = events(x=[1.0, 2.0, 3.0])
    at_once = cut.set_column(cut.column_names.index("_known_at"), "_known_at", pa.array([START] * 3, TIME))
    shown = Feature.model_validate({"from": "events", "entity": "e", "columns": ["x"]})
    for place, rows in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0])):
        assert last_value(shown, at_once.take(rows), tmp_path / str(place), "f__x") == 3.0


def test_a_cut_tells_the_last_offset_of_each_partition_in_whatever_order_rows_come(tmp_path: Path) -> None:
    cut = events(x=[1.0] * 5)
    places = {"_partition": [0, 0, 3, 3, 7], "_offset": [4, 9, 0, 2, 1]}
    for name, values in places.items():
        cut = cut.set_column(cut.column_names.index(name), name, pa.array(values, pa.int64()))
    shown = Feature.model_validate({"from": "events", "entity": "e", "columns": ["x"]})
    pieces = pa.concat_tables([cut.slice(0, 1), cut.slice(1, 2), cut.slice(3)])
    for place, rows in enumerate((cut, pieces, cut.take([4, 2, 0, 1, 3]))):
        made = materialize("f", shown, PLAIN, rows, tmp_path / str(place))
        assert made.cut == {"rows": 5, "ends": {"0": 9, "3": 2, "7": 1}}
