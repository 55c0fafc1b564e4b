"""A topic of Kafka, or of what speaks its protocol, as a stream that is read: no consumer group, no offset kept by the broker.

How far a table was read is in the commit that holds its rows (`data.target`), so a broker is asked for records from an offset and for
nothing else. Its identity is the topic's id (KIP-516), else cluster and name: a topic that is made anew is another stream. Only records
of transactions that were committed are read (`isolation.level` is `read_committed`).
A record arrived when its timestamp says: by the broker's clock where the topic has `message.timestamp.type=LogAppendTime`, else by the
producer's. Settings are those of librdkafka.
Does not know: what the bytes mean. A record without a value, a tombstone, is one of no bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from bedplate.core.errors import DataError, NotFound, Unavailable, nearest
from bedplate.core.protocols import StreamRecord
from bedplate.data.schema import INSTANT, SYSTEM
from bedplate.data.streams.reading import Records

TIMEOUT_S = 10.0
POLL_S = 0.1
AT_ONCE = 10_000
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"  # the id of a topic from before there were ids
_FIXED: Mapping[str, Any] = {
    "group.id": "bedplate",  # asked for by librdkafka; without `subscribe` no group is joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # an offset that is gone is an error here, never another offset
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
}
_FAST: Mapping[str, Any] = {"queued.min.messages": 500_000, "queued.max.messages.kbytes": 131_072, "fetch.wait.max.ms": 50}


class KafkaTopic:
    """A topic, from `servers` ("host:port,host:port") with settings of librdkafka. For one thread."""

    def __init__(self, servers: str, topic: str, settings: Mapping[str, str]) -> None:
        """Ask for the topic. Raises NotFound for one that is not there, DataError for a wrong setting, Unavailable without a broker."""
        self._servers = servers
        self._topic = topic
        own: dict[str, Any] = {"bootstrap.servers": servers, "error_cb": lambda _: None, "logger": _Silent()}
        try:
            self._admin = AdminClient({**settings, **own})
            self._consumer = Consumer({**_FAST, **settings, **own, **_FIXED})
        except (KafkaException, TypeError, ValueError) as error:
            raise DataError(f"Kafka takes no such setting: {_said(error)}", value=topic, fix="correct `options:`") from error
        self._next: tuple[int, int] | None = None
        described = self._described()
        self._partitions = sorted(partition.id for partition in described.partitions)
        identity = str(described.topic_id)
        self.identity = f"{self._cluster()}/{topic}" if identity == _NO_ID else identity

    def begin_offsets(self) -> dict[int, int]:
        """For each partition the oldest offset that is still there."""
        return self._offsets(OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # the library gives it no types

    def end_offsets(self) -> dict[int, int]:
        """For each partition the offset after the last record that may be read."""
        return self._offsets(OffsetSpec.latest())  # type: ignore[no-untyped-call]  # as above

    def read(self, partition: int, offset: int, limit: int) -> Sequence[StreamRecord]:
        """At most `limit` records from `offset` on; fewer at the end. Raises DataError for a partition or an offset that is not there."""
        self._check(partition, offset)
        if limit == 0 or offset >= self.end_offsets()[partition]:
            return []
        records = self.read_records(partition, offset, limit, 1 << 62)
        places, times_us = records.system["_offset"].to_numpy(), records.system["_arrived_at"].cast(pa.int64()).to_numpy()
        found = zip(places, times_us, records.values, strict=True)
        return [StreamRecord(partition, int(place), int(time_us) / 1e6, value.as_py()) for place, time_us, value in found]

    def read_records(self, partition: int, offset: int, limit: int, limit_bytes: int) -> Records:
        """At most `limit` records from `offset` on and about `limit_bytes` bytes, at least one where there is one.

        Raises DataError for an offset that is not there any more, and Unavailable when the broker falls silent.
        """
        if self._next != (partition, offset):
            self._check(partition, offset)
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        self._next = None  # until this has ended well
        values: list[bytes] = []
        places: list[int] = []
        times_ms: list[int] = []
        end, nbytes, heard_s, at_end = offset, 0, time.monotonic(), False
        while not at_end and len(values) < limit and nbytes < limit_bytes:
            messages = self._consumer.consume(min(AT_ONCE, limit - len(values)), POLL_S)
            told = [message for message in messages if message.error() is not None]
            if told:
                messages = [message for message in messages if message.error() is None]
                for message in told:
                    if at_end := self._is_end(message.error()):
                        end = max(end, int(message.offset() or 0))  # what lies between the last record and here is no record
            new = [message.value() or b"" for message in messages]
            values += new
            places += [message.offset() or 0 for message in messages]
            times_ms += [message.timestamp()[1] for message in messages]
            nbytes += sum(map(len, new))
            now_s = time.monotonic()
            if messages or told:
                heard_s = now_s
            elif now_s - heard_s > TIMEOUT_S:
                raise self._silent("it sent nothing")
        end = max(end, places[-1] + 1) if places else end
        self._next = (partition, end)
        return Records(partition, pa.array(values, pa.binary()), _system(partition, places, times_ms), end)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _check(self, partition: int, offset: int) -> None:
        """Raises DataError for a partition that is not there and an offset that was deleted."""
        begins = self.begin_offsets()
        if partition not in begins:
            raise DataError("the stream has no such partition", value=partition, fix=f"partitions are {min(begins)} to {max(begins)}")
        if offset < begins[partition]:
            what = f"the topic begins at {begins[partition]} in partition {partition}: what is asked for was deleted"
            raise DataError(what, value=offset, fix="keep records longer (`retention.ms`), and ingest before they go")

    def _offsets(self, which: Any) -> dict[int, int]:
        asked = {TopicPartition(self._topic, number): which for number in self._partitions}
        try:
            found = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT_S)
            return {place.partition: int(answer.result(TIMEOUT_S).offset) for place, answer in found.items()}
        except (KafkaException, TimeoutError) as error:
            raise self._silent(_said(error)) from error

    def _described(self) -> Any:
        try:
            answer = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=TIMEOUT_S)
            return answer[self._topic].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                fix = nearest(self._topic, self._admin.list_topics(timeout=TIMEOUT_S).topics)
                raise NotFound("the broker has no such topic", value=self._topic, fix=fix) from error
            raise self._silent(_said(error)) from error
        except TimeoutError as error:
            raise self._silent(_said(error)) from error

    def _cluster(self) -> str:
        return str(self._admin.list_topics(self._topic, timeout=TIMEOUT_S).cluster_id)

    def _is_end(self, error: Any) -> bool:
        """True for the end of the partition, false for what librdkafka tries again. Raises Unavailable for all else."""
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.code() == KafkaError._ALL_BROKERS_DOWN or not error.retriable():
            raise self._silent(error.str())
        return False

    def _silent(self, why: str) -> Unavailable:
        fix = "see that it runs, and that `source:` and `options:` are right"
        return Unavailable(f"the Kafka broker cannot be used: {why}", value=f"{self._servers}/{self._topic}", fix=fix)


class _Silent:
    """Takes librdkafka's own log lines: what matters comes as an error."""

    def log(self, *_: object) -> None:
        """Nothing."""


def _system(partition: int, places: Sequence[int], times_ms: Sequence[int]) -> pa.Table:
    known = np.maximum(np.array(times_ms, np.int64), 0)  # -1 in a topic from before there were timestamps: the beginning of time
    arrived = pa.array(known * 1000).cast(INSTANT)
    columns: list[pa.Array[Any]] = [arrived, pa.array(np.full(len(places), partition, np.int32)), pa.array(places, pa.int64())]
    return pa.Table.from_arrays(columns, schema=SYSTEM)


def _said(error: BaseException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else (str(error).splitlines() or [type(error).__name__])[0]


def opened(address: str, settings: Mapping[str, str]) -> KafkaTopic:
    """The topic of `kafka://host:port,host:port/topic`."""
    servers, _, topic = address.removeprefix("kafka://").rpartition("/")
    return KafkaTopic(servers, topic, settings)
