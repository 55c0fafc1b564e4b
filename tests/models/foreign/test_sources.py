"""Models by address: a folder, a registry of MLflow, a bucket of a real S3 server; what is unsafe stays outside."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
import torch
from obstore.store import from_url
from safetensors.torch import save_file

from bedplate.core.errors import DataError, NotFound
from bedplate.models.foreign.sources import fetch
from models.foreign.stores import mlflow_store
from models.packaging.test_formats import Evil
from servers.testbed.provide import provide
from servers.testbed.s3 import S3, s3


@pytest.fixture(scope="module", name="bucket")
def _bucket() -> Iterator[S3]:
    with provide(s3()) as server:
        yield server


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    save_file({"w": torch.ones(4)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"vocab_size": 9}))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: org/other\n---\n# Card\n")
    return folder


def test_a_folder_gives_its_safe_files_and_tells_what_it_left_out(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    for address in ("dir://base", f"dir://{tmp_path}/base"):
        found = fetch(address, [], tmp_path, tmp_path / "scratch")
        assert found.names == ("README.md", "config.json", "model.safetensors")
        [left] = found.left_out
        assert (left["name"], len(left["sha256"])) == ("pytorch_model.bin", 64)
        assert "builtins.eval" in left["why"]
        assert found.facts == {"from": address, "card_license": "apache-2.0", "card_base_model": "org/other"}
    assert fetch("dir://base", ["*.json", "*.safetensors"], tmp_path, tmp_path).names == ("config.json", "model.safetensors")


def test_without_safe_weights_all_is_given_so_that_packaging_refuses_it(tmp_path: Path) -> None:
    (checkpoint(tmp_path / "base") / "model.safetensors").unlink()
    found = fetch("dir://base", [], tmp_path, tmp_path)
    assert "pytorch_model.bin" in found.names
    assert found.left_out == ()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    with pytest.raises(NotFound, match=r"no such folder.*bose"):
        fetch("dir://bose", [], tmp_path, tmp_path)
    with pytest.raises(NotFound, match="there is no file of a model"):
        fetch("dir://base", ["*.gguf"], tmp_path, tmp_path)
    (tmp_path / "base" / "README.md").write_text("---\nlicense: [unclosed\n---\n")
    assert "card_license" not in fetch("dir://base", [], tmp_path, tmp_path).facts


def test_a_version_of_a_registry_by_number_and_by_alias(tmp_path: Path) -> None:
    mlflow_store(tmp_path / "old")
    for wanted in ("1", "champion", "@champion"):
        found = fetch(f"mlflow://cru/{wanted}?store=sqlite:///old/store.db", [], tmp_path, tmp_path / "scratch")
        assert found.names == ("MLmodel", "model.safetensors")
        assert (found.facts["mlflow"], found.facts["description"], found.facts["tags"]) == ("cru/1", "the first", {"ok": "yes"})
    with pytest.raises(NotFound, match=r"no such version.*its versions and aliases: 1, 2, champion"):
        fetch("mlflow://cru/9?store=sqlite:///old/store.db", [], tmp_path, tmp_path / "scratch")
    with pytest.raises(DataError, match=r"incomplete.*'cru/1'"):
        fetch("mlflow://cru/1", [], tmp_path, tmp_path / "scratch")


def test_a_prefix_of_a_bucket(tmp_path: Path, bucket: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
    }.items():
        monkeypatch.setenv(name, value)
    folder = checkpoint(tmp_path / "base")
    store = from_url("s3://bucket/models/base")
    for path in folder.iterdir():
        obstore.put(store, path.name, path.read_bytes())
    found = fetch("s3://bucket/models/base", ["*.safetensors", "*.json", "*.bin"], tmp_path, tmp_path / "scratch")
    assert found.names == ("config.json", "model.safetensors")
    assert [each["name"] for each in found.left_out] == ["pytorch_model.bin"]
    assert (found.folder / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    with pytest.raises(NotFound, match="there is no file of a model"):
        fetch("s3://bucket/models/nothing", [], tmp_path, tmp_path / "empty")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    with pytest.raises(DataError, match="the place cannot be read"):
        fetch("s3://bucket/models/base", [], tmp_path, tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("---\nlicense: mit\n---\n# Card\n", {"card_license": "mit"}),
        ("---\r\nlicense: mit\r\n---\r\n", {"card_license": "mit"}),
        ("---\nbase_model: [a/b, c/d]\n---\n", {"card_base_model": "['a/b', 'c/d']"}),
        ("---\nlicense: ''\nother: 1\n---\n", {}),
        ("---\n- a list\n---\n", {}),
        ("---\n---\n", {}),
        ("# Card\n---\nlicense: mit\n---\n", {}),
        ("", {}),
    ],
)
def test_a_cards_front_matter_tells_license_and_base_model(tmp_path: Path, text: str, facts: dict[str, str]) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "README.md").write_bytes(text.encode())
    assert fetch("dir://base", [], tmp_path, tmp_path).facts == {"from": "dir://base", **facts}


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ("README.md", "config.json", "model.safetensors")),
        (["*"], ("README.md", "config.json", "model.safetensors")),
        (["model.*"], ("model.safetensors",)),
        (["config.json", "model.s?fetensors"], ("config.json", "model.safetensors")),
        (["[cm]*"], ("config.json", "model.safetensors")),
    ],
)
def test_patterns_choose_files(tmp_path: Path, patterns: list[str], names: tuple[str, ...]) -> None:
    checkpoint(tmp_path / "base")
    assert fetch("dir://base", patterns, tmp_path, tmp_path).names == names


def test_a_folders_name_may_be_quoted_in_its_address(tmp_path: Path) -> None:
    checkpoint(tmp_path / "my base")
    assert fetch("dir://my%20base", [], tmp_path, tmp_path).folder == (tmp_path / "my base").resolve()


@pytest.mark.parametrize("address", ["mlflow://1?store=sqlite:///s.db", "mlflow://cru/1?other=x", "mlflow:///1?store=sqlite:///s.db"])
def test_an_incomplete_address_of_a_registry_is_told_how_it_is_written(tmp_path: Path, address: str) -> None:
    with pytest.raises(DataError, match=r"incomplete.*Fix: mlflow://MODEL/VERSION\?store="):
        fetch(address, [], tmp_path, tmp_path / "scratch")


def test_an_unknown_alias_names_those_that_are_known(tmp_path: Path) -> None:
    mlflow_store(tmp_path / "old")
    for wanted in ("@best", "champio", "0"):
        with pytest.raises(NotFound, match="its versions and aliases: 1, 2, champion"):
            fetch(f"mlflow://cru/{wanted}?store=sqlite:///old/store.db", [], tmp_path, tmp_path / "scratch")
    with pytest.raises(NotFound, match="its versions and aliases: none"):
        fetch("mlflow://other/1?store=sqlite:///old/store.db", [], tmp_path, tmp_path / "scratch")
