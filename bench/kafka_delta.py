"""A Kafka topic into a table, each record once, beside a bare consumer that writes Parquet.

The topic has JSON records of some 100 bytes. The bare consumer is what one writes in an afternoon: `consume`, parse, one Parquet file a
batch; it has no quarantine and loses or doubles rows when it is killed. It parses with `orjson`; a second row, without a bar, has it parse
with DuckDB's JSON reader, once a record, where ours looks at each record four times to tell what does not fit and why. Each is a process
of its own, interleaved. `BEDPLATE_BENCH_RECORDS` makes it smaller.
Does not know: the broker (Tansu, of the test bed, in memory).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.peers import python_of
from bench.table import Row

RECORDS = int(os.environ.get("BEDPLATE_BENCH_RECORDS", "2000000"))
REPEATS = 3
BARE = ["confluent-kafka==2.16.1", "pyarrow==26.0.1", "orjson==3.13.0", "duckdb==2.0.0"]

OURS = """
import sys, time
from pathlib import Path
from bedplate.core.spec import Dataset
from bedplate.data.engines.kafka import opened
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
address, folder, records = sys.argv[1], sys.argv[2], int(sys.argv[3])
declared = Dataset.model_validate({"source": address, "columns": {"id": "int", "name": "string", "at": "timestamp", "delay": "float"}})
started_s = time.perf_counter()
cut = ingest_stream("t", declared, opened(address, {}), "t", Lake(Path(folder)), lambda *_: None)
print(time.perf_counter() - started_s)
assert cut.rows == records, cut
"""

THEIRS = """
import sys, time
import pyarrow as pa, pyarrow.parquet as pq, orjson, duckdb
from confluent_kafka import Consumer, TopicPartition
address, folder, records, parser = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
servers, topic = address.removeprefix("kafka://").split("/")
started_s = time.perf_counter()
consumer = Consumer({"bootstrap.servers": servers, "group.id": folder, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                     "queued.min.messages": 500000, "queued.max.messages.kbytes": 131072, "fetch.wait.max.ms": 50})
consumer.assign([TopicPartition(topic, 0, 0)])
schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("at", pa.timestamp("us", "UTC")), ("delay", pa.float64())])
texts = pa.schema([("id", pa.int64()), ("name", pa.string()), ("at", pa.string()), ("delay", pa.float64())])
done, batch = 0, []
def write():
    if parser == "orjson":
        rows = pa.Table.from_pylist([orjson.loads(value) for value in batch], texts)
    else:
        fields = '{"id": "BIGINT", "name": "VARCHAR", "at": "VARCHAR", "delay": "DOUBLE"}'
        lines = pa.table({"j": pa.array(batch, pa.binary()).cast(pa.string())})
        rows = duckdb.sql(f"select x.* from (select json_transform(j, '{fields}') as x from lines)").to_arrow_table()
    pq.write_table(rows.cast(schema), f"{folder}/{done}.parquet")
while done < records:
    for message in consumer.consume(10000, 0.1):
        if message.error() is None:
            batch.append(message.value())
    if len(batch) >= 250000 or done + len(batch) >= records:
        done += len(batch)
        write()
        batch = []
print(time.perf_counter() - started_s)
consumer.close()
"""


def rows() -> list[Row]:
    """Records a second, both ways."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from servers.testbed.kafka import kafka

    bare = python_of("kafka-bare", BARE)
    with kafka() as broker, tempfile.TemporaryDirectory() as scratch:
        address = f"kafka://{broker.bootstrap}/records"
        _fill(broker.bootstrap)
        taken: dict[str, list[float]] = {"ours": [], "orjson": [], "duckdb": []}
        for repeat in range(REPEATS):
            for name, times in taken.items():
                folder = Path(scratch, f"{name}-{repeat}")
                folder.mkdir()
                python, script = (sys.executable, OURS) if name == "ours" else (str(bare), THEIRS)
                done = subprocess.run(
                    [python, "-c", script, address, str(folder), str(RECORDS), name], capture_output=True, text=True, check=True
                )
                times.append(RECORDS / float(done.stdout.split()[-1]))
        ours = statistics.median(taken["ours"])
        spread = f"{min(taken['ours']):.3g} to {max(taken['ours']):.3g}"
        return [
            Row(
                f"Kafka to Delta, {RECORDS} JSON records",
                ours,
                "records/s",
                spread,
                statistics.median(taken[parser]),
                f"bare consumer to Parquet, {parser}",
                limit=0.7 if parser == "orjson" else None,
                higher_is_better=True,
            )
            for parser in ("orjson", "duckdb")
        ]


def _fill(bootstrap: str) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("records", 1, 1)])["records"].result(timeout=10)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for number in range(RECORDS):
        if number == RECORDS - 1:
            producer.flush(60)  # the last record alone: this broker tells the end of the first record of a batch
        value = json.dumps({"id": number, "name": f"n{number % 977}", "at": "2013-01-01T10:00:00Z", "delay": number / 7})
        while True:
            try:
                producer.produce("records", value=value.encode(), partition=0)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
