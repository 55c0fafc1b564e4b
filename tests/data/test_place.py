"""The lake in a bucket of a real S3 service: reads and writes as in a folder, races of real processes, and what is said when it fails."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from deltalake import DeltaTable

from bedplate.core.clock import SystemClock
from bedplate.core.errors import DataError, NotFound, Unavailable
from bedplate.core.spec import Dataset
from bedplate.data.expectations import check
from bedplate.data.ingest import ingest_file, ingest_stream, read_cut
from bedplate.data.lake import COMPACT_FILES, Lake, Table, Write
from bedplate.data.place import place_of
from bedplate.data.streams.log import Log
from servers.testbed.provide import provide
from servers.testbed.s3 import s3

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a service on loopback, in the environment as every client reads it."""
    with provide(s3()) as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", service.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", service.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", service.secret_key)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        store, _ = pafs.FileSystem.from_uri("s3://lakes?allow_bucket_creation=true")
        store.create_dir("lakes")
        yield "s3://lakes"


@pytest.fixture
def lake(bucket: str, tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    return Lake(f"{bucket}/{request.node.name}", tmp_path / "scratch")


def add(table: Table, number: int) -> bool:
    rows = pa.table({"n": [number]}, schema=SCHEMA)
    return table.write(lambda: Write(rows, {"source": number}, {0: number}) if (table.recorded("source") or 0) < number else None)


def test_a_bucket_is_written_and_read_like_a_folder(lake: Lake) -> None:
    assert (lake.table("t"), lake.names()) == (None, [])
    table = lake.create("t", SCHEMA)
    assert [add(table, 1), add(table, 2), add(table, 2)] == [True, True, False]
    stale = lake.table("t", 1)
    assert stale is not None
    assert not add(stale, 2), "the conditional put refused it, and it looked again"
    assert sorted(lake.read("t")["n"].to_pylist()) == [1, 2]
    assert lake.read("t", version=1)["n"].to_pylist() == [1]
    assert [(commit.version, dict(commit.offsets)) for commit in lake.history("t")] == [(2, {0: 2}), (1, {0: 1}), (0, {})]
    assert lake.names() == ["t"]
    connection = duckdb.connect(config={"enable_external_access": "false"})
    connection.register("stored", lake.dataset("t"))
    assert connection.execute("SELECT sum(n) FROM stored").fetchall() == [(3,)]
    connection.close()
    with pytest.raises(NotFound, match="the lake has no such table"):
        lake.read("u")
    with pytest.raises(NotFound, match="versions are 0 to 2"):
        lake.read("t", version=3)


RACE = """
import sys
from pathlib import Path
import pyarrow as pa
from bedplate.data.lake import Lake, Write

uri, scratch, writer = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
lake = Lake(uri, scratch / str(writer))  # as on two machines: nothing is shared but the bucket
table = lake.create("t", pa.schema([("n", pa.int64())]))
for number in range(1, 6):
    rows = pa.table({"n": pa.array([number], pa.int64())})
    table.write(lambda: Write(rows, {"source": number}) if (table.recorded("source") or 0) < number else None)
    table.write(lambda: Write(rows, {f"own-{writer}": number}))
"""


def test_writers_on_several_machines_lose_and_double_nothing(
    bucket: str, lake: Lake, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = f"{bucket}/{request.node.name}"
    command = [sys.executable, "-c", textwrap.dedent(RACE), uri, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    assert [writer.wait(timeout=100) for writer in writers] == [0, 0, 0]
    numbers = sorted(lake.read("t")["n"].to_pylist())
    assert numbers == sorted([*range(1, 6)] * 4), "each shared number once, each own number once a writer"


def test_files_and_streams_are_ingested_into_a_bucket_once(lake: Lake, tmp_path: Path) -> None:
    rules = [{"range": {"column": "n", "max": 90}, "otherwise": "quarantine"}, {"unique": "n"}]
    (tmp_path / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(100)))
    declared = Dataset.model_validate({"source": "rows.csv", "columns": {"n": "int"}, "expect": rules})
    for _ in range(2):
        cut = ingest_file("rows", declared, tmp_path / "rows.csv", lake, lambda done, total: None)
    assert (cut.rows, cut.quarantined) == (91, 9)
    assert len(lake.history("rows")) == 2  # made, filled
    assert [(each.held, each.quarantined) for each in check(lake, "rows", cut.table_version, declared, 0.0)] == [(True, 9), (True, 0)]

    log = Log(tmp_path / "log", SystemClock())
    log.append([json.dumps({"n": n}).encode() for n in range(95)], producer="p", sequence=0)
    for _ in range(2):
        made = ingest_stream("events", declared, log, "events", lake, lambda done, total: None, commit_records=40)
    assert read_cut(lake, "events", made.table_version, declared)["n"].to_pylist() == list(range(91))
    assert lake.names() == ["events", "events_quarantine", "rows", "rows_quarantine"]


def test_small_files_in_a_bucket_are_left_as_they_are(lake: Lake) -> None:
    table = lake.create("t", SCHEMA)
    for number in range(1, 4):
        add(table, number)
    assert not table.compact(least_files=2)
    assert len(table.files()) == 3
    assert COMPACT_FILES > 2


def test_other_readers_and_their_time_travel(bucket: str, lake: Lake, request: pytest.FixtureRequest) -> None:
    table = lake.create("t", SCHEMA)
    add(table, 1)
    add(table, 2)
    uri = f"{bucket}/{request.node.name}/t"
    assert sorted(DeltaTable(uri).to_pyarrow_table()["n"].to_pylist()) == [1, 2]
    assert DeltaTable(uri, version=1).to_pyarrow_table()["n"].to_pylist() == [1]


def test_a_bucket_that_cannot_be_used_is_named_without_secrets(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"the lake's bucket cannot be used: NoSuchBucket \(got 's3://nowhere/t'\)"):
        Lake("s3://nowhere", tmp_path).table("t")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(Unavailable, match="cannot be used") as refused:
        Lake(f"{bucket}/x", tmp_path).table("t")
    assert "wrong-secret" not in str(refused.value)


def test_places(tmp_path: Path) -> None:
    assert place_of(f"file://{tmp_path}").uri("t") == str(tmp_path / "t")
    assert place_of("s3://b/p/", tmp_path).uri("t") == "s3://b/p/t"
    for wrong in ("ftp://b", "s3://b"):
        with pytest.raises(DataError, match="no place for a lake"):
            place_of(wrong)
