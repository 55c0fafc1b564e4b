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


@pytest.mark.parametrize("servers", ["broker:9092", "10.0.0.1:9092,b-2.example.org:9093"])
def test_a_topic_of_a_broker(servers: str) -> None:
    dataset = Dataset.model_validate(
        {"source": f"kafka://{servers}/orders.v2", "options": {"sasl.password": "${PASSWORD}", "client.id": "shop"}}
    )
    assert (dataset.topic, dataset.is_embedded, dataset.is_remote, dataset.is_made) == ("orders.v2", False, False, False)
    assert Dataset(source="log://orders").is_embedded


@pytest.mark.parametrize(
    "source",
    ["kafka://broker/orders", "kafka://broker:9092", "kafka://broker:9092/", "kafka://a:b@broker:9092/orders", "kafka://b:9092/x y"],
)
def test_what_is_no_topic_of_a_broker(source: str) -> None:
    with pytest.raises(ValidationError, match="is no topic"):
        Dataset(source=source)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "give exactly one of source, sql, python, not none"),
        ({"source": "a.csv", "sql": "SELECT 1"}, "not source and sql"),
        ({"sql": "SELECT 1", "python": "f.py:f", "reads": ["a"]}, "not sql and python"),
        ({"python": "f.py:f"}, "`reads` names the datasets"),
        ({"sql": "SELECT 1", "reads": ["a"]}, "`reads` names the datasets"),
        ({"sql": "SELECT n FROM a", "expect": [{"not_null": "n", "otherwise": "quarantine"}]}, "rows that are made are not set apart"),
        ({"sql": "SELECT n FROM a", "options": {"client.id": "x"}}, "are those of a kafka:// source"),
    ],
)
def test_a_dataset_has_one_origin(declared: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Dataset.model_validate(declared)


def test_a_made_dataset_is_told_from_one_that_is_read() -> None:
    assert Dataset(sql="SELECT n FROM a").is_made
    assert Dataset.model_validate({"python": "f.py:f", "reads": ["a", "b"]}).is_made
    assert Dataset(sql="SELECT n FROM a").topic is None
