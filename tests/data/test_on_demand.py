"""On-demand features: in a training set and for one row alike, and what a function may not return."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bedplate.core.errors import DataError
from bedplate.core.spec import Inputs, Split
from bedplate.data.features import materialize
from bedplate.data.feed import ShardFeed
from bedplate.data.on_demand import OnDemandView, apply
from bedplate.data.training_set import build
from data.histories import ASOF, DATASET, START, Row, table


def doubled(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's function: from a field and from a feature."""
    return {"twice": pc.multiply(columns["bags"], 2), "more": pc.add(columns["bags"], columns["l__bags"])}


VIEW = OnDemandView("d", ("bags", "l__bags"), (("twice", "int"), ("more", "float")), doubled)


def returning(**columns: Any) -> OnDemandView:
    """A view whose function returns just this."""
    return OnDemandView("d", ("bags",), (("twice", "int"),), lambda _: columns)


def test_outputs_are_named_typed_and_null_where_an_input_is() -> None:
    found = apply(VIEW, {"bags": pa.array([1, None, 3]), "l__bags": pa.array([10, 20, None]), "unused": pa.array([0, 0, 0])})
    assert VIEW.names == (("d__twice", "int"), ("d__more", "float"))
    assert {name: values.type for name, values in found.items()} == {"d__twice": pa.int64(), "d__more": pa.float64()}
    assert found["d__twice"].to_pylist() == [2, None, 6]
    assert found["d__more"].to_pylist() == [11.0, None, None]


def test_a_row_alone_gives_what_it_gives_among_others() -> None:
    columns = {"bags": pa.array(range(50)), "l__bags": pa.array(range(100, 150))}
    together = apply(VIEW, columns)
    for row in (0, 17, 49):
        alone = apply(VIEW, {name: values.slice(row, 1) for name, values in columns.items()})
        assert {name: values[0].as_py() for name, values in alone.items()} == {
            name: values[row].as_py() for name, values in together.items()
        }


def test_numpy_and_lists_are_taken_too() -> None:
    assert apply(returning(twice=np.array([4])), {"bags": pa.array([2])})["d__twice"].to_pylist() == [4]
    assert apply(returning(twice=[4, None]), {"bags": pa.array([2, 1])})["d__twice"].to_pylist() == [4, None]
    assert apply(returning(twice=pa.chunked_array([[1], [2]])), {"bags": pa.array([2, 1])})["d__twice"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({}, r"'d' returns no such column \(got 'twice'\)"),
        ({"twice": [1]}, r"d\.twice another length than its inputs \(got 1\)\. Fix: return 2 values"),
        ({"twice": ["one", "two"]}, r"d\.twice as what is no int"),
        ({"twice": [1.5, 2.5]}, r"d\.twice as what is no int"),
        ({"twice": 7}, r"d\.twice as what is no int"),
    ],
)
def test_what_does_not_fit_is_refused(returned: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        apply(returning(**returned), {"bags": pa.array([1, 2])})


def test_an_input_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'d' has no such input \(got 'bags'\)\. Fix: did you mean 'bag'\?"):
        apply(returning(twice=[1]), {"bag": pa.array([1])})


def test_a_training_set_has_what_the_functions_give(tmp_path: Path) -> None:
    base: Row = {"carrier": "AA", "origin": "EWR", "slot": START, "happened_at": START, "_known_at": START, "_partition": 0, "gain": 1.0}
    rows = [base | {"flight": number, "bags": number} for number in range(4)]
    stored = materialize("l", ASOF, DATASET, table(rows), tmp_path / "l")
    later = OnDemandView("e", ("d__twice",), (("plus", "int"),), lambda columns: {"plus": pc.add(columns["d__twice"], 1)})
    inputs = Inputs(spine="events", columns=("carrier",), label="events.gain", features=("l", "d", "e"))
    build(inputs, Split(valid=0.0, test=0.0), table(rows), DATASET, table(rows), [stored, VIEW, later], tmp_path / "set", lambda *_: None)
    columns = ShardFeed(tmp_path / "set").columns("train")
    assert columns["d__twice"].tolist() == [0, 2, 4, 6]
    assert columns["e__plus"].tolist() == [1, 3, 5, 7]
    assert columns["d__more"].tolist() == [3.0, 4.0, 5.0, 5.0]  # the latest but for the row's own event
