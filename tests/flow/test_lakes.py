"""The lake of a project: in its state folder, elsewhere on disk, or in a bucket; the same commands, and moving from one to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import open_workspace
from cli.kit import as_json, bedplate, refused
from servers.testbed.provide import provide
from servers.testbed.s3 import s3

PROJECT = """
project: shop
{lake}
datasets:
  sales:
    source: sales.csv
    known_at: at
    columns: {{id: int, at: timestamp, shop: string, amount: float}}
    expect: [{{unique: id}}]
features:
  sums: {{from: sales, entity: shop, windows: [1h], aggregates: {{amount: [sum]}}}}
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with provide(s3()) as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", service.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", service.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", service.secret_key)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        store, _ = pafs.FileSystem.from_uri("s3://lakes?allow_bucket_creation=true")
        store.create_dir("lakes")
        yield "s3://lakes"


def shop(folder: Path, lake: str) -> Path:
    (folder / "bedplate.yaml").write_text(PROJECT.format(lake=f"lake: {lake}" if lake else ""))
    rows = "".join(f"{n},2024-01-01T00:{n:02}:00Z,s{n % 2},{n}\n" for n in range(20))
    (folder / "sales.csv").write_text("id,at,shop,amount\n" + rows)
    return folder


def test_a_project_s_tables_are_in_the_bucket_and_its_commands_find_them(bucket: str, tmp_path: Path) -> None:
    folder = shop(tmp_path, f"{bucket}/shop")
    done = bedplate(folder, "run", "sums")
    assert done.returncode == 0, done.stdout
    assert not (folder / ".bedplate" / "lake" / "sales").exists()
    assert [commit["rows"] for commit in as_json(folder, "data", "history", "sales")] == [20, 0]
    assert as_json(folder, "data", "check", "sales")["version"] == "sales@1"
    assert "nothing was run" in bedplate(folder, "run", "sums").stdout
    with (folder / "sales.csv").open("a") as file:
        file.write("20,2024-01-01T01:00:00Z,s0,500\n")
    assert bedplate(folder, "run", "sales").returncode == 0
    assert as_json(folder, "data", "drift", "sales@1", "sales@2")["rows"] == [20, 21]
    with open_workspace(folder) as workspace:
        assert lake_of(workspace).read("sales", 1).num_rows == 20


def test_a_lake_that_moves_is_filled_anew(tmp_path: Path) -> None:
    folder = shop(tmp_path, "")
    assert bedplate(folder, "run", "sales").returncode == 0
    assert (folder / ".bedplate" / "lake" / "sales").is_dir()
    shop(folder, f"file://{tmp_path}/elsewhere")
    assert bedplate(folder, "run", "sales").returncode == 0
    assert (tmp_path / "elsewhere" / "sales" / "_delta_log").is_dir()
    assert "nothing was run" in bedplate(folder, "run", "sales").stdout


def test_a_lake_that_is_none_is_an_error_of_the_project_file(tmp_path: Path) -> None:
    assert ":3: lake: the value has the wrong form (got 'hdfs://x')" in refused(shop(tmp_path, "hdfs://x"), "plan")


def test_a_bucket_that_is_not_there_fails_the_run_in_one_line(bucket: str, tmp_path: Path) -> None:
    said = bedplate(shop(tmp_path, "s3://nowhere/shop"), "run", "sales").stdout
    assert bucket
    assert "the lake's bucket cannot be used: NoSuchBucket (got 's3://nowhere/shop/sales')" in said
