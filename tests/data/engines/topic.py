"""Topics of a real broker for tests: made, produced to, and made anew.

The broker of the test bed tells as its end the offset after the *first* record of the last batch, so every batch has one record here.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from servers.testbed.kafka import Kafka


@dataclass(frozen=True)
class Topic:
    """A topic of a broker; `address` is what a dataset's source says."""

    broker: Kafka
    name: str

    @property
    def address(self) -> str:
        return f"kafka://{self.broker.bootstrap}/{self.name}"

    def make(self, partitions: int = 1) -> Topic:
        admin = self._admin()
        admin.create_topics([NewTopic(self.name, partitions, 1)])[self.name].result(timeout=10)
        return self

    def drop(self) -> None:
        admin = self._admin()
        admin.delete_topics([self.name])[self.name].result(timeout=10)

    def produce(self, values: Sequence[bytes | None], partition: int = 0, at_ms: int = 0) -> None:
        failed: list[object] = []

        def told(error: object, _: object) -> None:
            failed.extend([error] if error else [])

        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "batch.num.messages": 1, "linger.ms": 0})
        for value in values:
            producer.produce(self.name, value=value, partition=partition, timestamp=at_ms, on_delivery=told)
            producer.poll(0)
        assert (producer.flush(30), failed) == (0, [])

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.broker.bootstrap})


def new_topic(broker: Kafka, partitions: int = 1) -> Topic:
    return Topic(broker, f"t-{uuid.uuid4().hex[:12]}").make(partitions)
