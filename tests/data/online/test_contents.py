"""What is in a store: written, read, and refused when it cannot be."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset, Feature
from bedplate.data.online.contents import Contents, decode_row, described, encode_row, values_of
from data import agreement
from data.histories import START

TABLES = {"events": (agreement.DATASET, agreement.table(agreement.history(1)[0]))}


def test_contents_come_back_as_they_were() -> None:
    contents = described(agreement.FEATURES, TABLES)
    again = Contents.decode(contents.encode())
    assert again.encode() == contents.encode()
    assert again.views == contents.views
    assert again.datasets["events"].dataset == agreement.DATASET
    assert again.datasets["events"].key == (("carrier", "string"), ("flight", "int"))


def test_another_format_is_refused() -> None:
    with pytest.raises(DataError, match="another format"):
        Contents.decode(b'{"format": 1}')


def test_outputs_have_the_types_of_what_they_say() -> None:
    columns = dict(described(agreement.FEATURES, TABLES).views["w"].columns)
    expected = {"w__gain__sum__30m": "float", "w__bags__sum__30m": "int", "w__bags__mean__2d": "float", "w__carrier__min__90m": "string"}
    expected |= {"w__happened_at__last__2d": "timestamp", "w__gain__distinct__30m": "int", "w__gain__decayed_sum__45m": "float"}
    assert {name: columns[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"from": "others", "entity": "origin", "columns": ["gain"]}, "dataset are missing"),
        ({"from": "events", "entity": "orign", "columns": ["gain"]}, "did you mean 'origin'"),
        ({"from": "events", "entity": "origin", "columns": ["gian"]}, "did you mean 'gain'"),
        ({"from": "events", "entity": "gain", "columns": ["bags"]}, "a float can be no part"),
        ({"from": "events", "entity": "origin", "windows": ["1h"], "aggregates": {"carrier": ["sum"]}}, "no number to aggregate"),
    ],
)
def test_features_that_cannot_be(declared: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        described({"f": Feature.model_validate(declared)}, TABLES)


def test_a_row_by_key_has_its_events_and_its_latest_values() -> None:
    row = encode_row([(1, 0, 7), (-5, 1, 8)], '["é",0]')
    assert decode_row(row) == ([(1, 0, 7), (-5, 1, 8)], '["é",0]')
    assert values_of((("name", "string"), ("at", "timestamp")), '["é",null]') == {"name": "é", "at": None}
    at = values_of((("at", "timestamp"),), f"[{round(START.timestamp() * 1e6)}]")["at"]
    assert at == START


def test_a_dataset_without_a_key_is_not_kept_by_it() -> None:
    table = pa.table({"a": [1], "_known_at": pa.array([START], pa.timestamp("us", tz="UTC")), "_partition": [0], "_offset": [0]})
    assert described({}, {"events": (Dataset(source="log://events"), table)}).datasets["events"].key == ()
