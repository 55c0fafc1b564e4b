"""The stream of a dataset: the embedded log where it says so, else a broker's, with what its options name of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import SpecError, Unavailable
from bedplate.core.spec import Dataset
from bedplate.data.engines import kafka
from bedplate.data.streams.log import Log
from bedplate.flow.streams import has_stream, stream_of


def test_an_embedded_topic_lies_in_the_state_folder(tmp_path: Path) -> None:
    dataset = Dataset(source="log://clicks")
    assert not has_stream(dataset, tmp_path)
    log = Log(tmp_path / "log" / "clicks", SystemClock())
    log.append([b"1"], producer="p", sequence=0)
    assert has_stream(dataset, tmp_path)
    assert (stream_of(dataset, tmp_path).identity, stream_of(dataset, tmp_path).end_offsets()) == (log.identity, {0: 1})
    assert not has_stream(Dataset(source="days.csv"), tmp_path)


def test_options_of_a_broker_are_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "TIMEOUT_S", 0.5)
    dataset = Dataset.model_validate({"source": "kafka://127.0.0.1:1/clicks", "options": {"client.id": "${WHO}"}})
    assert has_stream(dataset, tmp_path)
    with pytest.raises(SpecError, match=r"an environment variable that the project names is not set.*WHO"):
        stream_of(dataset, tmp_path)
    monkeypatch.setenv("WHO", "shop")
    with pytest.raises(Unavailable, match="the Kafka broker cannot be used"):
        stream_of(dataset, tmp_path)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"source": "kafka://broker/clicks"}, "is no topic"),
        ({"source": "kafka://me:pw@broker:9092/clicks"}, "a password goes to `options:`"),
        ({"source": "days.csv", "options": {"client.id": "x"}}, "are those of a kafka:// source"),
        ({"source": "kafka://b:9092/clicks", "options": {"sasl.password": "hunter2"}}, "a secret stands in the project file"),
        ({"source": "kafka://b:9092/clicks", "options": {"ssl.key.pem": "MII..."}}, "a secret stands in the project file"),
    ],
)
def test_what_a_broker_cannot_be_told_is_refused(declared: dict[str, object], said: str) -> None:
    with pytest.raises((ValueError, SpecError), match=said) as refused:
        Dataset.model_validate(declared)
    assert "hunter2" not in str(refused.value)
