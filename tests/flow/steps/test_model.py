"""The model step: a foreign model becomes a version, with its license, without what could run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bedplate.core.attempt import Attempt
from bedplate.core.errors import DataError, UnsafeArtifact
from bedplate.core.package import open_package
from bedplate.flow.opened import open_project
from bedplate.flow.steps.model import work
from flow.world import attempt, said
from models.foreign.test_sources import checkpoint

pytestmark = pytest.mark.usefixtures("clean_imports")


def model(folder: Path, **spec: Any) -> Attempt:
    return attempt(folder, "base", "model", {"from": "dir://base", "license": None, "files": [], **spec})


def test_a_folder_becomes_a_sealed_version_with_license_origin_and_what_was_left_out(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    made = model(tmp_path)
    assert work(made) == 0
    [output] = said(made, "output")
    assert (output["name"], output["kind"]) == ("base", "model")
    folder = Path(made.state) / output["location"]
    manifest = open_package(folder, output["digest"])
    assert set(manifest["files"]) >= {"model.safetensors", "config.json", "signature.json", "example.json", "environment.json"}
    assert "pytorch_model.bin" not in manifest["files"]
    assert (output["meta"]["license"], output["meta"]["weights"]) == ("apache-2.0", ["safetensors"])
    assert output["meta"]["origin"]["from"] == "dir://base"
    assert [each["name"] for each in output["meta"]["left_out"]] == ["pytorch_model.bin"]
    assert json.loads((folder / "environment.json").read_text())["python"] is None, "it was not made by this interpreter"


def test_the_same_files_are_the_same_version_and_share_their_bytes(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    first, second = model(tmp_path), model(tmp_path)
    work(first)
    work(second)
    one, two = said(first, "output")[0], said(second, "output")[0]
    assert one["digest"] == two["digest"]
    inodes = {(Path(first.state) / each["location"] / "model.safetensors").stat().st_ino for each in (one, two)}
    assert len(inodes) == 1


def test_a_license_that_the_card_contradicts_is_an_error_and_one_that_nobody_knows_is_unknown(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    with pytest.raises(DataError, match=r"its license is 'apache-2.0' \(got 'mit'\)"):
        work(model(tmp_path, license="mit"))
    (tmp_path / "base" / "README.md").unlink()
    made = model(tmp_path)
    work(made)
    assert said(made, "output")[0]["meta"]["license"] == "unknown"


def test_weights_that_could_run_code_are_refused_until_somebody_vouches_for_them(tmp_path: Path) -> None:
    (checkpoint(tmp_path / "base") / "model.safetensors").unlink()
    with pytest.raises(UnsafeArtifact, match=r"loading pytorch_model\.bin could run code: .*builtins\.eval") as caught:
        work(model(tmp_path))
    made = model(tmp_path, trusted=[caught.value.value])
    assert work(made) == 0
    assert open_package(Path(made.state) / said(made, "output")[0]["location"])["trusted"] == ["pytorch_model.bin"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    checkpoint(tmp_path / "base")
    (tmp_path / "bedplate.yaml").write_text("project: llama\nmodels: {base: {from: 'dir://base', files: ['*.json', '*.safetensors']}}\n")
    return tmp_path


def test_a_project_brings_it_in_once_and_anew_when_the_folder_changed(project: Path) -> None:
    """The whole way, in processes of its own."""
    with open_project(project) as opened:
        assert [run.outputs for run in opened.run("base")] == [("base@1",)]
        assert opened.run("base") == [], "it is up to date"
        (project / "base" / "config.json").write_text('{"vocab_size": 10}')
        assert opened.plan("base").step("base").why == "dir://base changed since base-1"
        opened.run("base")
        assert opened.version("base").number == 2
        (project / "base" / "config.json").write_text('{"vocab_size": 9}')
        assert opened.run("base") == [], "equal content is the version that is there"
