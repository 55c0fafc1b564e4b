"""The Kafka broker keeps what a real client produced, in order, per partition."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from servers.testbed.kafka import Kafka


def test_what_was_produced_is_consumed_in_order(kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic("flights", 2, 1)])["flights"].result(timeout=10)
    failures: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for number in range(20):
        producer.produce(
            "flights",
            key=b"UA",
            value=str(number).encode(),
            partition=1,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    assert producer.flush(10) == 0
    assert failures == []

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "readers", "session.timeout.ms": 6000})
    try:
        consumer.assign([TopicPartition("flights", 1, 0)])
        records = consumer.consume(20, timeout=20)
        assert [(record.offset(), record.key(), record.value()) for record in records] == [
            (number, b"UA", str(number).encode()) for number in range(20)
        ]
        assert consumer.get_watermark_offsets(TopicPartition("flights", 0), timeout=10) == (0, 0)
    finally:
        consumer.close()
