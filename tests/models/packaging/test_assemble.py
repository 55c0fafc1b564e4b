"""Files become a version: complete, sealed, without anything that could run code unless somebody vouched for it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bedplate.core.errors import CheckpointError, DataError, UnsafeArtifact
from bedplate.core.package import open_package, sha256_file
from bedplate.models.packaging.assemble import assemble, files_below, refuse, through_store
from models.packaging.test_formats import Evil


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    save_file({"w": torch.ones(4)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 9}))
    return folder


def test_a_version_is_complete_and_every_file_is_in_its_manifest(source: Path, tmp_path: Path) -> None:
    digest, manifest = assemble(source, tmp_path / "version", facts={"params": {"lr": 0.1}})
    assert set(manifest["files"]) == {"model.safetensors", "config.json", "signature.json", "example.json", "environment.json"}
    assert (manifest["weights"], manifest["params"]) == (["safetensors"], {"lr": 0.1})
    assert open_package(tmp_path / "version", digest) == manifest
    signature = json.loads((tmp_path / "version" / "signature.json").read_text())
    assert signature["outputs"][0]["shape"] == [-1, -1, 9]
    assert "torch" in json.loads((tmp_path / "version" / "environment.json").read_text())["packages"]


def test_what_the_maker_says_is_kept_and_equal_content_has_an_equal_digest(source: Path, tmp_path: Path) -> None:
    said = {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}], "outputs": []}
    made = [assemble(source, tmp_path / name, facts={}, signature=said, environment={"packages": {}})[0] for name in ("one", "two")]
    assert made[0] == made[1]
    assert json.loads((tmp_path / "one" / "signature.json").read_text()) == said
    (source / "signature.json").write_text('{"inputs": [], "outputs": [], "own": true}')
    assemble(source, tmp_path / "three", facts={}, signature=said)
    assert json.loads((tmp_path / "three" / "signature.json").read_text())["own"]


def test_a_pickle_is_refused_with_its_name_and_digest_and_taken_when_it_is_vouched_for(source: Path, tmp_path: Path) -> None:
    (source / "scaler.bin").write_bytes(pickle.dumps(Evil()))
    digest = sha256_file(source / "scaler.bin")
    with pytest.raises(UnsafeArtifact) as caught:
        assemble(source, tmp_path / "version", facts={})
    line = caught.value.one_line()
    assert line.startswith("loading scaler.bin could run code: a pickle that calls builtins.eval")
    assert f"(got '{digest}')" in line
    assert f"bedplate models trust {digest} --reason" in line
    assert not (tmp_path / "version").exists()
    _, manifest = assemble(source, tmp_path / "version", facts={}, trusted=[digest])
    assert manifest["trusted"] == ["scaler.bin"]
    (source / "scaler.bin").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UnsafeArtifact, match=r"scaler\.bin"):
        assemble(source, tmp_path / "other", facts={}, trusted=[digest])


def test_without_weights_or_with_a_link_that_leads_out_there_is_no_version(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no weights are among these files"):
        assemble(source, tmp_path / "version", facts={}, names=["config.json"])
    (source / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="a link leads out of the model's folder"):
        assemble(source, tmp_path / "version", facts={})
    (source / "passwords").unlink()
    (source / ".git").mkdir()
    (source / ".git" / "HEAD").write_text("ref")
    (source / "again").symlink_to(source / "config.json")
    assert files_below(source) == ["again", "config.json", "model.safetensors"]


def test_versions_share_the_bytes_of_equal_files(source: Path, tmp_path: Path) -> None:
    place = through_store(tmp_path / "objects")
    digests = [assemble(source, tmp_path / name, facts={"made": name}, place=place)[0] for name in ("one", "two")]
    inodes = {(tmp_path / name / "model.safetensors").stat().st_ino for name in ("one", "two")}
    assert len(inodes) == 1
    assert (source / "model.safetensors").stat().st_ino not in inodes, "whoever writes to the source changes no version"
    save_file({"w": torch.zeros(4)}, source / "model.safetensors")
    for name, digest in zip(("one", "two"), digests, strict=True):
        open_package(tmp_path / name, digest)
    kept = next(path for path in (tmp_path / "objects").rglob("*") if path.is_file() and path.stat().st_ino in inodes)
    kept.chmod(0o644)
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        open_package(tmp_path / "one", digests[0])


def test_a_version_that_is_there_is_not_written_over_and_a_failure_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def fails(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise DataError("the disk is full")

    with pytest.raises(DataError, match="the disk is full"):
        assemble(source, tmp_path / "made" / "version", facts={}, place=fails)
    assert not list((tmp_path / "made").iterdir())


def test_folders_below_are_kept_and_a_trusted_file_may_be_the_only_weights(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "model.pkl").write_bytes(pickle.dumps(Evil()))
    digest = sha256_file(folder / "deep" / "er" / "model.pkl")
    _, manifest = assemble(folder, tmp_path / "version", facts={}, trusted=[digest], environment={})
    assert (manifest["weights"], manifest["trusted"]) == ([], ["deep/er/model.pkl"])
    assert (tmp_path / "version" / "deep" / "er" / "model.pkl").is_file()


@pytest.mark.parametrize("name", [".git/config", ".cache/huggingface/x", ".gitattributes", "deep/.gitattributes", "manifest.json"])
def test_what_tools_keep_beside_a_model_is_no_part_of_it(source: Path, name: str) -> None:
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text("x")
    assert files_below(source) == ["config.json", "model.safetensors"]
    (source / "git").mkdir()
    (source / "git" / "manifest.json").write_text("{}")
    assert "git/manifest.json" in files_below(source), "only the one at the top is ours"


def test_the_refusal_names_file_digest_and_the_two_ways_on() -> None:
    error = refuse("scaler.bin", "ab" * 32, "a pickle that calls os.system")
    assert error.one_line() == (
        f"loading scaler.bin could run code: a pickle that calls os.system (got '{'ab' * 32}'). Fix: write it as safetensors, ONNX or by "
        f"skops; or vouch for this one file: bedplate models trust {'ab' * 32} --reason ..."
    )


def test_bytes_that_are_kept_cannot_be_written_and_are_named_by_their_digest(source: Path, tmp_path: Path) -> None:
    place = through_store(tmp_path / "objects")
    for name in ("one", "two"):
        place(source / "config.json", tmp_path / name)
    digest = sha256_file(source / "config.json")
    [kept] = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert kept == tmp_path / "objects" / digest[:2] / digest
    assert (kept.stat().st_mode & 0o777, kept.stat().st_nlink) == (0o444, 3)
