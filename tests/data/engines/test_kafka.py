"""A topic of a real broker as a stream: places, times, identity, and a table in which each record is once, whatever is killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bedplate.core.errors import DataError, NotFound, Unavailable
from bedplate.core.spec import Dataset
from bedplate.data.engines import kafka as engine
from bedplate.data.engines.kafka import KafkaTopic, opened
from bedplate.data.ingest import Cut, ingest_stream, read_cut
from bedplate.data.lake import Lake
from cli.kit import as_json, bedplate
from data.engines.topic import Topic, new_topic
from servers.testbed.kafka import Kafka
from servers.testbed.process import free_ports

COLUMNS = {"id": "int", "name": "string"}
INGESTER = """
import sys
from pathlib import Path
from bedplate.core.spec import Dataset
from bedplate.data.engines.kafka import opened
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake

address, state, step = sys.argv[1:]
declared = Dataset.model_validate({"source": address, "columns": {"id": "int", "name": "string"}})
lake = Lake(Path(state))
print("ready", flush=True)
while True:
    ingest_stream("things", declared, opened(address, {}), "x", lake, lambda *_: None, commit_records=int(step))
"""


def records(first: int, last: int) -> list[bytes | None]:
    """Every tenth is bad: no JSON, or a tombstone."""
    bad = [b"not json", None]
    return [bad[n // 10 % 2] if n % 10 == 9 else json.dumps({"id": n, "name": f"n{n}"}).encode() for n in range(first, last)]


def dataset(topic: Topic, **more: object) -> Dataset:
    return Dataset.model_validate({"source": topic.address, "columns": COLUMNS, **more})


def ingest(topic: Topic, lake: Lake, **options: int) -> Cut:
    return ingest_stream("things", dataset(topic), opened(topic.address, {}), topic.name, lake, lambda *_: None, **options)


def places(lake: Lake, name: str) -> list[tuple[int, int]]:
    table = lake.read(name)
    return list(zip(table["_partition"].to_pylist(), table["_offset"].to_pylist(), strict=True))


def test_records_come_back_in_order_with_their_places_and_times(kafka: Kafka) -> None:
    topic = new_topic(kafka, partitions=2)
    topic.produce([b"a", b"", b"\x00\xff\n"], partition=1, at_ms=1_000_500)
    topic.produce([b"d"], partition=1, at_ms=1_002_500)
    stream = opened(topic.address, {})
    assert (stream.begin_offsets(), stream.end_offsets()) == ({0: 0, 1: 0}, {0: 0, 1: 4})
    found = stream.read(1, 0, 10)
    assert [(each.partition, each.offset, each.value) for each in found] == [(1, 0, b"a"), (1, 1, b""), (1, 2, b"\x00\xff\n"), (1, 3, b"d")]
    assert [each.arrived_at_s for each in found] == [1000.5, 1000.5, 1000.5, 1002.5]
    assert [each.value for each in stream.read(1, 2, 1)] == [b"\x00\xff\n"]
    assert [each.value for each in stream.read(1, 3, 9)] == [b"d"]
    assert stream.read(1, 4, 9) == stream.read(0, 0, 9) == stream.read(1, 0, 0) == []
    with pytest.raises(DataError, match="no such partition"):
        stream.read(7, 0, 1)
    stream.close()


def test_a_topic_made_anew_is_another_stream_and_a_second_handle_is_the_same(kafka: Kafka) -> None:
    topic = new_topic(kafka)
    first = opened(topic.address, {}).identity
    assert opened(topic.address, {}).identity == first
    topic.drop()
    topic.make()
    assert opened(topic.address, {}).identity != first


def test_what_is_not_there_is_named(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = new_topic(kafka)
    topic.produce([b"x"])
    with pytest.raises(NotFound, match="the broker has no such topic"):
        opened(f"{topic.address}x", {})
    with pytest.raises(DataError, match=r"Kafka takes no such setting.*fetch\.mx\.bytes"):
        opened(topic.address, {"fetch.mx.bytes": "1"})
    with pytest.raises(DataError, match="what is asked for was deleted"):
        opened(topic.address, {}).read_records(0, -5, 1, 1)
    monkeypatch.setattr(engine, "TIMEOUT_S", 1.0)
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match=r"the Kafka broker cannot be used.*got '127.0.0.1:\d+/x'"):
        KafkaTopic(f"127.0.0.1:{port}", "x", {})


def test_a_topic_becomes_a_table_that_follows_it(kafka: Kafka, tmp_path: Path) -> None:
    topic, lake = new_topic(kafka, partitions=3), Lake(tmp_path / "lake")
    topic.produce(records(0, 40), partition=0, at_ms=5_000)
    topic.produce(records(0, 20), partition=2)
    cut = ingest(topic, lake, commit_records=25)
    assert (cut.rows, cut.quarantined, dict(cut.offsets)) == (54, 6, {0: 40, 1: 0, 2: 20})
    assert dict(cut.reasons) == {"not valid JSON": 6}
    table = read_cut(lake, "things", cut.table_version, dataset(topic))
    arrived = zip(table["_partition"].to_pylist(), table["_arrived_at"].to_pylist(), strict=True)
    assert {moment.timestamp() for partition, moment in arrived if partition == 0} == {5.0}
    topic.produce(records(0, 10), partition=1)
    again = ingest(topic, lake)
    assert (again.rows, dict(again.offsets)) == (63, {0: 40, 1: 10, 2: 20})
    assert len(lake.history("things")) == len([entry for entry in lake.history("things") if entry.rows]) + 2, "all partitions in one commit"
    assert set(Counter([*places(lake, "things"), *places(lake, "things_quarantine")]).values()) == {1}
    topic.drop()
    topic.make()
    topic.produce(records(0, 5))
    assert ingest(topic, lake).rows == 5


@pytest.mark.crash
def test_killed_at_any_moment_each_record_is_in_the_table_once(kafka: Kafka, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    topic, moments = new_topic(kafka, partitions=2), random.Random(pytestconfig.getoption("--crash-seed"))
    lake, ends = Lake(tmp_path / "lake"), [0, 0]
    for _ in range(max(3, pytestconfig.getoption("--kills") // 4)):
        for partition in (0, 1):
            more = moments.randrange(20, 60)
            topic.produce(records(ends[partition], ends[partition] + more), partition=partition)
            ends[partition] += more
        command = [sys.executable, "-c", INGESTER, topic.address, str(tmp_path / "lake"), str(moments.choice([7, 30, 500]))]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(moments.choice([1, 1, 2]))]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.4))
        for process in processes:
            process.kill()
            process.communicate()
    cut = ingest_stream("things", dataset(topic), opened(topic.address, {}), "x", lake, lambda *_: None)
    everything = Counter([*places(lake, "things"), *places(lake, "things_quarantine")])
    assert everything == Counter((partition, offset) for partition in (0, 1) for offset in range(ends[partition]))
    assert cut.rows + cut.quarantined == sum(ends)


def test_a_project_reads_a_topic_and_is_up_to_date_until_it_grows(kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = new_topic(kafka)
    topic.produce(records(0, 20))
    monkeypatch.setenv("CLIENT", "shop")
    text = (
        f'project: shop\ndatasets:\n  things: {{source: "{topic.address}", options: {{client.id: "${{CLIENT}}"}}, columns: {{id: int}}}}\n'
    )
    (tmp_path / "bedplate.yaml").write_text(text)
    assert bedplate(tmp_path, "run", "things").returncode == 0
    assert "nothing was run" in bedplate(tmp_path, "run", "things").stdout
    topic.produce(records(20, 30))
    assert "things@2" in bedplate(tmp_path, "run", "things").stdout
    assert as_json(tmp_path, "data", "history", "things")[0]["offsets"] == {"0": 30}
    rolled = bedplate(tmp_path, "data", "rollback", "things@1", "--reason", "the second batch was wrong")
    assert rolled.returncode == 0, rolled.stderr
    assert bedplate(tmp_path, "data", "release", "things", "--reason", "it was mended").returncode == 0
    assert "nothing was run" in bedplate(tmp_path, "run", "things").stdout, "the version of all 30 records is still there"
    topic.produce(records(30, 40))
    assert "things@3" in bedplate(tmp_path, "run", "things").stdout
    assert sorted(places(Lake(tmp_path / ".bedplate" / "lake"), "things")) == [(0, offset) for offset in range(40) if offset % 10 != 9]
