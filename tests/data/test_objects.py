"""Objects of a real S3 service as files: which a pattern names, copies that are kept, changed and dropped, and stores that refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import obstore
import pyarrow.fs as pafs
import pytest
from obstore.store import from_url
from pydantic import ValidationError

from bedplate.core.errors import DataError, Unavailable
from bedplate.core.spec import Dataset
from bedplate.data.ingest import ingest_file, read_cut
from bedplate.data.lake import Lake
from bedplate.data.objects import fetched, position
from cli.kit import bedplate
from servers.testbed.provide import provide
from servers.testbed.s3 import s3


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A bucket of a service on loopback, in the environment as every client reads it."""
    with provide(s3()) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", running.endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", running.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", running.secret_key)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        store, _ = pafs.FileSystem.from_uri("s3://sources?allow_bucket_creation=true")
        store.create_dir("sources")
        yield "s3://sources"


@pytest.fixture
def uri(service: str, request: pytest.FixtureRequest) -> str:
    return f"{service}/{re.sub(r'[^a-z0-9]+', '-', request.node.name)}"


def put(uri: str, **objects: str) -> None:
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for name, text in objects.items():
        obstore.put(from_url(f"s3://{bucket}"), f"{prefix}/{name.replace('__', '/').replace('_', '.')}", text.encode())


def names(path: Path) -> list[str]:
    files = next(parent for parent in path.parents if parent.name == "files")
    return sorted(each.relative_to(files).as_posix() for each in files.rglob("*") if each.is_file())


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "deep/er/d.csv", "deep/c.csv"]),
        ("deep/*.csv", ["c.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("deep/c.csv", ["c.csv"]),
    ],
)
def test_a_pattern_names_objects_as_it_names_files(uri: str, tmp_path: Path, pattern: str, wanted: list[str]) -> None:
    put(uri, a_csv="1", b_csv="1", deep__c_csv="1", deep__er__d_csv="1", a_csvx="1")
    assert names(fetched(f"{uri}/{pattern}", tmp_path)) == sorted(wanted)


def test_what_did_not_change_is_not_copied_again(uri: str, tmp_path: Path) -> None:
    put(uri, a_csv="n\n1\n", b_csv="n\n2\n", c_csv="n\n3\n")
    first = position(f"{uri}/*.csv")
    files = fetched(f"{uri}/*.csv", tmp_path).parent
    stamps = {name: (files / name).stat().st_ctime_ns for name in ("a.csv", "b.csv")}
    put(uri, b_csv="n\n20\n")
    obstore.delete(from_url("s3://sources"), f"{uri.removeprefix('s3://sources/')}/c.csv")
    assert position(f"{uri}/*.csv") != first
    fetched(f"{uri}/*.csv", tmp_path)
    assert (files / "a.csv").stat().st_ctime_ns == stamps["a.csv"]
    assert (files / "b.csv").stat().st_ctime_ns != stamps["b.csv"]
    assert sorted(path.name for path in files.iterdir()) == ["a.csv", "b.csv"]
    assert (files / "b.csv").read_text() == "n\n20\n"
    (files / "a.csv").unlink()
    assert (fetched(f"{uri}/*.csv", tmp_path).parent / "a.csv").exists(), "a copy that was lost is taken again"


def test_objects_become_a_table_in_which_each_is_once(uri: str, tmp_path: Path) -> None:
    declared = Dataset.model_validate({"source": f"{uri}/*.csv", "columns": {"n": "int"}})
    lake = Lake(tmp_path / "lake")

    def held() -> list[int]:
        cut = ingest_file("days", declared, fetched(declared.source, tmp_path / "objects"), lake, lambda *_: None)
        return [int(n) for n in read_cut(lake, "days", cut.table_version, declared)["n"].to_pylist()]

    put(uri, a_csv="n\n1\n2\n")
    assert held() == [1, 2]
    put(uri, b_csv="n\n3\n")
    assert held() == [1, 2, 3]
    assert held() == [1, 2, 3]


def test_a_project_ingests_objects_and_is_up_to_date_until_one_changes(uri: str, tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text(f'project: shop\ndatasets:\n  days: {{source: "{uri}/*.csv", columns: {{n: int}}}}\n')
    put(uri, a_csv="n\n1\n2\n")
    assert bedplate(tmp_path, "run", "days").returncode == 0
    assert "nothing was run" in bedplate(tmp_path, "run", "days").stdout
    put(uri, b_csv="n\n3\n")
    assert "days@2" in bedplate(tmp_path, "run", "days").stdout


def test_what_is_not_there_or_refuses_is_named(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(uri, a_csv="1")
    with pytest.raises(DataError, match=r"no object matches the source \(got '.*/\*\.json'\)"):
        position(f"{uri}/*.json")
    with pytest.raises(Unavailable, match="the objects of the source cannot be read"):
        fetched(f"{uri}/gone.csv", tmp_path)
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        position("s3://nowhere/*.csv")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(Unavailable, match="cannot be read") as refused:
        position(f"{uri}/*.csv")
    assert "wrong-secret" not in str(refused.value)


@pytest.mark.parametrize("source", ["s3://bucket", "s3://bucket/", "s3://key:secret@bucket/x.csv", "s3:///x.csv", "hdfs://x/y.csv"])
def test_addresses_that_are_none(source: str) -> None:
    with pytest.raises(ValidationError):
        Dataset.model_validate({"source": source})
    assert Dataset(source="s3://bucket/x/*.csv").is_remote
