"""Datasets: what a source may be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Dataset


def test_a_dataset_from_a_stream_knows_its_topic() -> None:
    assert Dataset(source="log://departures").topic == "departures"
    assert Dataset(source="data/weather.csv.gz").topic is None
    assert Dataset(source="a").backfill == "untrusted"


@pytest.mark.parametrize("source", ["", "kafka://a", "s3://bucket/x", "log://", "log://Upper", "log://a b", "log://../x", "log:///x"])
def test_a_source_that_cannot_be_read(source: str) -> None:
    with pytest.raises(ValidationError):
        Dataset(source=source)
