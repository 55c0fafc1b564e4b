"""JSON records: what is a row, what is set apart and why, and that no bytes can do harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.spec import ColumnType
from bedplate.data.records import JsonReader, arrow_of, system_columns
from bedplate.data.schema import SYSTEM, Batch, Shape
from bedplate.data.streams.blocks import Block

COLUMNS: dict[str, ColumnType] = {"s": "string", "i": "int", "f": "float", "b": "bool", "t": "timestamp"}
SHAPE = Shape("t", COLUMNS)
KEYED = Shape("t", {"s": "string", "i": "int"}, ("s",))


@pytest.fixture
def reader() -> Iterator[JsonReader]:
    reader = JsonReader()
    yield reader
    reader.close()


def read(reader: JsonReader, shape: Shape, *records: bytes) -> Batch:
    return reader.batch(shape, pa.array(records, pa.binary()), system_columns(0, 0, np.arange(len(records))))


def problems(batch: Batch) -> dict[int, str]:
    return dict(zip(batch.bad["_offset"].to_pylist(), batch.bad["problem"].to_pylist(), strict=True))


def test_values_of_the_right_json_type_become_columns(reader: JsonReader) -> None:
    batch = read(
        reader,
        SHAPE,
        b'{"s": "a\\u00e9\\"\\n", "i": 7, "f": 1, "b": true, "t": "2013-01-01T10:00:00Z"}',
        b' {"t": null, "f": -0.5e1, "i": 2.0, "s": "2013-01-01"}\n',
        b"{}",
    )
    assert batch.bad.num_rows == 0
    first, second, third = batch.good.drop_columns(SYSTEM.names).to_pylist()
    assert (first["s"], first["i"], first["f"], first["b"], first["t"].isoformat()) == ('aé"\n', 7, 1.0, True, "2013-01-01T10:00:00+00:00")
    assert second == {"s": "2013-01-01", "i": 2, "f": -5.0, "b": None, "t": None}
    assert set(third.values()) == {None}, "a field that is missing is null"


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (b'{"i": "7"}', "i: not an int"),
        (b'{"i": 1.5}', "i: not an int"),
        (b'{"i": 9223372036854775808}', "i: not an int"),
        (b'{"i": true}', "i: not an int"),
        (b'{"i": [1]}', "i: not an int"),
        (b'{"f": "1.5"}', "f: not a float"),
        (b'{"f": Infinity}', "f: not a float"),
        (b'{"b": 1}', "b: not a bool"),
        (b'{"b": "true"}', "b: not a bool"),
        (b'{"s": 1}', "s: not a string"),
        (b'{"s": {"x": 1}}', "s: not a string"),
        (b'{"t": 1357034400}', "t: not a timestamp"),
        (b'{"t": "soon"}', "t: not a timestamp"),
        (b"", "not valid JSON"),
        (b'{"s": "a"', "not valid JSON"),
        (b'{"s": "a"} {"s": "b"}', "not valid JSON"),
        (b"{'s': 1}", "not valid JSON"),
        (b'{"s": "\\ud800"}', "not valid JSON"),
        (b"null", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"s": "\xff"}', "not UTF-8"),
    ],
)
def test_a_record_that_does_not_fit_is_set_apart_with_its_bytes(reader: JsonReader, record: bytes, problem: str) -> None:
    fine = b'{"s": "fine", "i": 1, "f": 1.5, "b": false, "t": "2013-01-01"}'
    batch = read(reader, SHAPE, fine, record, fine)
    assert batch.good["_offset"].to_pylist() == [0, 2]
    (row,) = batch.bad.to_pylist()
    assert (row["_offset"], row["problem"], row["raw"]) == (1, problem, record)
    assert row["reason"].startswith(problem)


def test_nan_is_read_as_null(reader: JsonReader) -> None:
    batch = read(reader, SHAPE, json.dumps({"f": float("nan")}).encode())
    assert batch.good["f"].to_pylist() == [None]


def test_a_null_in_the_key_sets_a_record_apart(reader: JsonReader) -> None:
    batch = read(reader, KEYED, b'{"s": null, "i": 1}', b'{"i": 1}', b'{"s": "", "i": null}')
    assert problems(batch) == {0: "s: null in a key", 1: "s: null in a key"}
    assert batch.good["_offset"].to_pylist() == [2]


def test_fields_are_counted_whether_declared_or_not(reader: JsonReader) -> None:
    batch = read(reader, KEYED, b'{"s": "a", "x": {"deep": 1}}', b'{"s": "b", "x": 1, "y": 2}', b"not json")
    assert dict(batch.fields) == {"s": 2, "x": 2, "y": 1}
    assert batch.good.num_rows == 2


def test_faults_of_all_kinds_come_in_the_order_of_the_records(reader: JsonReader) -> None:
    batch = read(reader, KEYED, b"{", b'{"s": 1}', b"\xff", b'{"s": "ok"}', b'{"i": 1}', b"[]")
    assert list(problems(batch)) == [0, 1, 2, 4, 5]
    assert batch.bad["raw"].to_pylist() == [b"{", b'{"s": 1}', b"\xff", b'{"i": 1}', b"[]"]


def test_columns_are_inferred_in_the_order_of_the_fields(reader: JsonReader) -> None:
    records = [
        {"name": "a", "count": 1, "share": 1, "on": True, "at": "2013-01-01T10:00:00Z", "nested": {"x": 1}, "empty": None},
        {"name": "1", "count": 2, "share": 0.5, "on": None, "at": "2013-01-02T10:00:00Z", "list": [1], "strange name": 1, "_mine": 1},
        {"name": "b", "Name": "other case"},
    ]
    inferred = reader.infer(pa.array([json.dumps(record).encode() for record in records]))
    assert inferred == {"name": "string", "count": "int", "share": "float", "on": "bool", "at": "timestamp", "empty": "string"}
    assert list(inferred)[:4] == ["name", "count", "share", "on"]
    assert reader.infer(pa.array([], pa.binary())) == {}


def test_digits_in_quotes_are_inferred_as_text(reader: JsonReader) -> None:
    assert reader.infer(pa.array([b'{"zip": "01234"}'])) == {"zip": "string"}


def test_deep_nesting_and_huge_records_are_only_records(reader: JsonReader) -> None:
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "s": "deep"}'
    batch = read(reader, KEYED, deep, b'{"s": "' + b"y" * 2_000_000 + b'"}')
    assert [len(value) for value in batch.good["s"].to_pylist()] == [4, 2_000_000]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=3
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.dictionaries(st.sampled_from([*COLUMNS, "x"]), json_values, max_size=6).map(lambda values: json.dumps(values).encode()),
        ),
        max_size=10,
    )
)
def test_any_bytes_become_a_row_or_a_reason_never_both_or_neither(reader: JsonReader, records: list[bytes]) -> None:
    batch = read(reader, SHAPE, *records)
    good, bad = batch.good["_offset"].to_pylist(), batch.bad["_offset"].to_pylist()
    assert sorted([*good, *bad]) == list(range(len(records)))
    assert [records[offset] for offset in bad] == batch.bad["raw"].to_pylist()
    for row in batch.good.to_pylist():
        given_values: dict[str, Any] = json.loads(records[row["_offset"]])
        if isinstance(given_values.get("s"), str):
            assert row["s"] == given_values["s"]


def test_blocks_become_one_array_with_places_and_times() -> None:
    blocks = [
        Block(2, 5, 1.5, memoryview(np.array([1, 0], dtype=np.uint32)), memoryview(b"a")),
        Block(2, 7, 2.25, memoryview(np.array([2], dtype=np.uint32)), memoryview(b"bc")),
    ]
    records, system = arrow_of(blocks)
    assert records.to_pylist() == [b"a", b"", b"bc"]
    assert system["_offset"].to_pylist() == [5, 6, 7]
    assert system["_partition"].to_pylist() == [2, 2, 2]
    assert [moment.timestamp() for moment in system["_arrived_at"].to_pylist()] == [1.5, 1.5, 2.25]
    empty, nothing = arrow_of([])
    assert (len(empty), nothing.num_rows) == (0, 0)
