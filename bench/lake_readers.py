"""Tables that we wrote, read by others in environments of their own: each version's rows and digest equal, on disk and in S3.

`ours` counts the versions that a reader sees as we wrote them. Spark reads what is on disk: its S3 client does not ship with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from bedplate.core.spec import Dataset
from bedplate.data.ingest import ingest_file, read_cut
from bedplate.data.lake import Lake
from bench.lake_readers_peer import canonical
from bench.peers import python_of
from bench.table import Row

PEER = Path(__file__).with_name("lake_readers_peer.py")
ROWS = 50_000
READERS: Mapping[str, tuple[str, ...]] = {
    "delta-rs": ("deltalake==1.4.0", "pyarrow==22.0.0"),
    "polars": ("polars==1.35.2", "deltalake==1.4.0", "pyarrow==22.0.0"),
    "duckdb": ("duckdb==1.5.5", "duckdb-extensions", "duckdb-extension-delta==1.5.5", "duckdb-extension-httpfs==1.5.5"),
    "spark": ("pyspark==4.0.1", "deltalake==1.4.0", "pyarrow==22.0.0"),
}
DATASET = Dataset.model_validate(
    {"source": "rows.csv", "key": ["id"], "columns": {"id": "int", "at": "timestamp", "name": "string", "amount": "float"}}
)


def rows() -> list[Row]:
    """A line for each reader and place."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-readers-"))
    try:
        made = _compared(folder / "lake", Lake(folder / "lake"), folder, tuple(READERS), "on disk")
        with _bucket() as uri:
            made += _compared(uri, Lake(uri, folder / "scratch"), folder, tuple(name for name in READERS if name != "spark"), "in S3")
        return made
    finally:
        shutil.rmtree(folder)


def _compared(root: Path | str, lake: Lake, folder: Path, readers: tuple[str, ...], where: str) -> list[Row]:
    versions = _written(lake, folder)
    made = []
    for name in readers:
        python = python_of(f"lake-{name}", READERS[name])
        equal = sum(_read(python, name, f"{root}/rows", version) == expected for version, expected in versions.items())
        made.append(
            Row(f"{name} reads what we wrote {where}", equal, f"of {len(versions)} versions", limit=len(versions), higher_is_better=True)
        )
    return made


def _written(lake: Lake, folder: Path) -> dict[int, dict[str, object]]:
    """Three versions of a table: what is in each, as a digest of our own reading."""
    seen = {}
    for edition in range(1, 4):
        lines = (
            f"{n},2024-01-{n % 28 + 1:02}T00:{n % 60:02}:00.{n % 1000:03}Z,{'' if n % 7 == edition else f'näme {n}'},{n / 3 * edition}"
            for n in range(ROWS // 4 * edition)
        )
        (folder / "rows.csv").write_text("\n".join(["id,at,name,amount", *lines, ""]))
        cut = ingest_file("rows", DATASET, folder / "rows.csv", lake, lambda *_: None)
        table = read_cut(lake, "rows", cut.table_version, DATASET)
        at = table["at"].cast("int64").to_pylist()
        seen[cut.table_version] = canonical(
            zip(table["id"].to_pylist(), at, table["name"].to_pylist(), table["amount"].to_pylist(), strict=True)
        )
    return seen


def _read(python: Path, name: str, uri: str, version: int) -> dict[str, object] | None:
    """What a reader sees; None, with its last words on standard error, when it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, PEER, name, uri, str(version)], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    if done.returncode:
        print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    seen: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return seen


@contextmanager
def _bucket() -> Iterator[str]:
    """A bucket of an S3 service on loopback, in the environment as every client reads it."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers.testbed.s3 import s3

    with s3() as service:
        known = {"AWS_ENDPOINT_URL": service.endpoint, "AWS_ACCESS_KEY_ID": service.access_key, "AWS_SECRET_ACCESS_KEY": service.secret_key}
        before = dict(os.environ)
        os.environ.update({**known, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"})
        try:
            store, _ = pafs.FileSystem.from_uri("s3://lakes?allow_bucket_creation=true")
            store.create_dir("lakes")
            yield "s3://lakes/bench"
        finally:
            os.environ.clear()
            os.environ.update(before)
