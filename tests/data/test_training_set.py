"""Training sets: rows, labels, splits and files, seen through the feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Inputs, Split
from bedplate.data.features import materialize
from bedplate.data.feed import NEVER_US, ShardFeed
from bedplate.data.training_set import TrainingSet, build, time_split
from data.histories import ASOF, DATASET, START, WINDOWED, Row, histories, spines, table

INPUTS = Inputs(spine="departures", columns=("bags", "carrier", "happened_at", "late"), label="arrivals.gain")
BASE: Row = {"carrier": "AA", "flight": 0, "origin": "EWR", "slot": START, "gain": None, "bags": 1, "happened_at": START, "_partition": 0}


def flight(number: int | None, minutes: float | None, gain: float | None = None, **values: Any) -> Row:
    """A row of a flight, known some minutes after the start."""
    known = None if minutes is None else START + timedelta(minutes=minutes)
    return BASE | {"flight": number, "gain": gain, "_known_at": known} | values


def with_late(rows: Sequence[Row]) -> pa.Table:
    """The rows as a table, with a bool column."""
    made = table(rows)
    return made.append_column("late", pa.array([row["flight"] == 1 for row in made.to_pylist()], pa.bool_()))


def made(folder: Path, spine: Sequence[Row], labels: Sequence[Row], inputs: Inputs = INPUTS, split: Split | None = None) -> TrainingSet:
    """A training set without features."""
    told: list[tuple[int, int]] = []
    result = build(inputs, split or Split(), with_late(spine), DATASET, table(labels), [], folder, lambda *told_now: told.append(told_now))
    assert told[-1] == (len(spine), len(spine))
    return result


def all_train(folder: Path, spine: Sequence[Row], labels: Sequence[Row], inputs: Inputs = INPUTS) -> dict[str, list[Any]]:
    """The columns of a set that is all train."""
    result = made(folder, spine, labels, inputs, Split(valid=0.0, test=0.0))
    return {name: values.tolist() for name, values in ShardFeed(result.folder).columns("train").items()}


def test_rows_in_order_with_their_labels(tmp_path: Path) -> None:
    spine = [flight(3, 0), flight(1, 1), flight(3, 2), flight(2, 3)]
    columns = all_train(tmp_path, spine, [flight(2, 9, 20.0), flight(3, 9, 30.0), flight(1, 9, 10.0)])
    assert columns["gain"] == [30.0, 10.0, 30.0, 20.0]


def test_columns_become_numbers_and_codes(tmp_path: Path) -> None:
    spine = [flight(1, 0, carrier="ZZ", bags=None), flight(2, 1, carrier="Ü", happened_at=None), flight(3, 2, carrier="AA")]
    labels = [row | {"gain": 0.0} for row in spine]
    columns = all_train(tmp_path, spine, labels)
    assert np.isnan(columns["bags"][0])
    assert columns["bags"][1:] == [1.0, 1.0]
    assert columns["late"] == [1.0, 0.0, 0.0]
    assert columns["happened_at"][0] == START.timestamp()
    assert np.isnan(columns["happened_at"][1])
    assert [ShardFeed(tmp_path).dictionary("carrier")[code] for code in columns["carrier"]] == ["ZZ", "Ü", "AA"]
    assert list(ShardFeed(tmp_path).dictionary("carrier")) == sorted(["ZZ", "Ü", "AA"])


def test_a_null_category_has_the_code_minus_one(tmp_path: Path) -> None:
    spine = [flight(1, 0), flight(2, 1)]
    inputs = INPUTS.model_copy(update={"columns": ("origin",)})
    columns = all_train(tmp_path, [spine[0], spine[1] | {"origin": None}], [flight(1, 5, 1.0), flight(2, 5, 2.0)], inputs)
    assert columns["origin"] == [0, -1]


def test_the_schema_keeps_the_declared_order(tmp_path: Path) -> None:
    schema = made(tmp_path, [flight(1, 0)], [flight(1, 1, 1.0)]).schema
    assert (schema.numeric, schema.categorical, schema.label) == (("bags", "happened_at", "late"), ("carrier",), "gain")
    assert ShardFeed(tmp_path).schema == schema


def test_of_several_labels_the_first_known_that_has_a_value_counts(tmp_path: Path) -> None:
    labels = [flight(1, 30, 3.0), flight(1, 20, 2.0), flight(1, 10, None), flight(1, 40, 4.0), flight(1, None, 9.0), flight(1, 20, 5.0)]
    assert all_train(tmp_path, [flight(1, 0)], labels)["gain"] == [2.0]


def test_rows_without_a_label_a_key_or_a_time_are_in_no_split(tmp_path: Path) -> None:
    spine = [flight(1, 0), flight(2, 1), flight(None, 2), flight(3, None), flight(4, 3)]
    labels = [flight(1, 9, 1.0), flight(2, 9, None), flight(None, 9, 7.0), flight(3, 9, 3.0), flight(4, 9, float("nan"))]
    result = made(tmp_path, spine, labels, split=Split(valid=0.0, test=0.0))
    assert dict(result.splits) == {"train": 1, "valid": 0, "test": 0, "unlabelled": 4}
    assert result.rows == 5
    assert np.fromfile(tmp_path / "at.i64", "<i8").tolist().count(NEVER_US) == 1


def test_the_test_is_the_last_part_by_time(tmp_path: Path) -> None:
    minutes = [7, 3, 9, 1, 5, 0, 2, 8, 4, 6]
    spine = [flight(number, minute) for number, minute in enumerate(minutes)]
    result = made(tmp_path, spine, [flight(number, 60, float(minutes[number])) for number in range(10)], split=Split(valid=0.1, test=0.2))
    feed = ShardFeed(tmp_path)
    assert {name: feed.columns(name)["gain"].tolist() for name in ("train", "valid", "test")} == {
        "train": [3.0, 1.0, 5.0, 0.0, 2.0, 4.0, 6.0],
        "valid": [7.0],
        "test": [9.0, 8.0],
    }
    at_us = {name: (START + timedelta(minutes=minute)).timestamp() * 1e6 for name, minute in (("valid", 7), ("test", 8))}
    assert dict(result.boundaries_us) == at_us


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60), st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.2, 0.6])
)
def test_splits_do_not_overlap_in_time(rows: list[tuple[int, bool]], valid: float, test: float) -> None:
    at_us = np.array([at for at, _ in rows], np.int64)
    labelled = np.array([has for _, has in rows], bool)
    codes, boundaries = time_split(at_us, labelled, Split(valid=valid, test=test))
    parts = [at_us[codes == code] for code in (0, 1, 2)]
    assert all(one.max() < other.min() for place, one in enumerate(parts) for other in parts[place + 1 :] if len(one) and len(other))
    assert (codes[~labelled] == -1).all()
    assert (codes[labelled] >= 0).all()
    assert len(parts[2]) >= round(labelled.sum() * test)
    for name, part in zip(("valid", "test"), parts[1:], strict=True):
        assert boundaries[name] == (part.min() if len(part) else None)


@settings(max_examples=8, deadline=None)
@given(spines, histories)
def test_the_same_inputs_make_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, spine: list[Row], events: list[Row]) -> None:
    folder = tmp_path_factory.mktemp("sets")
    cut = table(events)
    views = [materialize("w", WINDOWED, DATASET, cut, folder / "w"), materialize("l", ASOF, DATASET, cut, folder / "l")]
    inputs = Inputs(spine="departures", columns=("carrier",), label="arrivals.gain", features=("w", "l"))
    made = [build(inputs, Split(), table(spine), DATASET, cut, views, folder / name, lambda *_: None) for name in ("a", "b")]
    assert made[0].digest == made[1].digest
    files = [{path.name: path.read_bytes() for path in (folder / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]


def test_features_follow_the_columns(tmp_path: Path) -> None:
    labels = [flight(1, 5, 1.5), flight(2, 90, 2.5)]
    views = [
        materialize("w", WINDOWED, DATASET, table(labels), tmp_path / "w"),
        materialize("l", ASOF, DATASET, table(labels), tmp_path / "l"),
    ]
    inputs = INPUTS.model_copy(update={"features": ("w", "l")})
    spine = with_late([flight(1, 0), flight(2, 30)])
    result = build(inputs, Split(valid=0.0, test=0.0), spine, DATASET, table(labels), views, tmp_path / "set", lambda *_: None)
    columns = ShardFeed(result.folder).columns("train")
    assert columns["w__gain__count__1h"].tolist() == [0.0, 1.0]
    assert np.isnan(columns["w__gain__mean__1h"][0])
    assert columns["w__gain__mean__1h"][1] == 1.5
    assert columns["l__happened_at"][1] == START.timestamp()
    assert result.schema.categorical == ("carrier", "l__carrier")
    assert columns["l__carrier"].tolist() == [-1, 0]


def test_an_empty_spine_makes_an_empty_set(tmp_path: Path) -> None:
    result = made(tmp_path, [], [flight(1, 0, 1.0)])
    assert (result.rows, ShardFeed(tmp_path).rows("train"), dict(result.boundaries_us)) == (0, 0, {"valid": None, "test": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ("bag",)}, r"departures has no such column \(got 'bag'\)\. Fix: did you mean 'bags'\?"),
        ({"label": "arrivals.gains"}, r"arrivals has no such column \(got 'gains'\)\. Fix: did you mean 'gain'"),
        ({"label": "arrivals.origin"}, r"a label must be a number \(got 'arrivals\.origin'\)"),
        ({"columns": ("bags", "gain")}, r"two columns of one name \(got 'gain'\).*must not be given its label"),
    ],
)
def test_inputs_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(tmp_path, [flight(1, 0)], [flight(1, 1, 1.0)], INPUTS.model_copy(update=change))
    assert not (tmp_path / "manifest.json").exists()


def test_a_spine_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no key to join the label by \(got 'departures'\)"):
        build(INPUTS, Split(), with_late([]), Dataset(source="log://d"), table([]), [], tmp_path, lambda *_: None)


def test_an_integer_or_bool_label_is_a_number(tmp_path: Path) -> None:
    labels = table([flight(1, 5), flight(2, 5)]).append_column("won", pa.array([True, False]))
    inputs = Inputs(spine="departures", label="arrivals.won")
    split = Split(valid=0.0, test=0.0)
    build(inputs, split, table([flight(2, 0), flight(1, 0)]), DATASET, labels, [], tmp_path, lambda *_: None)
    assert ShardFeed(tmp_path).columns("train")["won"].tolist() == [0.0, 1.0]
