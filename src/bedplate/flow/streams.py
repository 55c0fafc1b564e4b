"""The stream that a dataset is read from: the embedded log in the state folder, or a topic of a broker.

Does not know: what a stream's records mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.core.loading import Entry, load
from bedplate.core.protocols import Stream
from bedplate.core.settings import with_environment
from bedplate.core.spec import Dataset
from bedplate.data.streams.log import Log

_BROKERS: Mapping[str, Entry] = {"kafka": Entry("bedplate.data.engines.kafka:opened", "a Kafka broker", "kafka")}


def stream_of(dataset: Dataset, state: Path) -> Stream:
    """The stream of a dataset that has one; a topic of the embedded log is made when it is not there.

    Raises NotFound for a topic that its broker does not have, DataError for a variable of the environment that is not set, and
    Unavailable where the broker does not answer or the extra is not installed.
    """
    if dataset.is_embedded:
        return Log(state / "log" / str(dataset.topic), SystemClock())
    options = {name: with_environment(value) for name, value in dataset.options.items()}
    stream: Stream = load(_BROKERS, dataset.source.partition("://")[0], "stream")(dataset.source, options)
    return stream


def has_stream(dataset: Dataset, state: Path) -> bool:
    """Whether a dataset is read from a stream that is there, as far as this machine can tell: a broker is not asked."""
    return dataset.topic is not None and (not dataset.is_embedded or (state / "log" / dataset.topic).is_dir())
