"""`bedplate checkpoint export`: the weights of a run's checkpoint and of a version, as any reader of safetensors takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cli.kit import as_json, bedplate, refused


def test_a_version_and_a_run_s_checkpoint_have_the_same_kind_of_weights(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mlp"}')
    version = as_json(whole, "checkpoint", "export", "amount@1", str(tmp_path / "version"), "--config", str(tmp_path / "config.json"))
    assert version["source"] == "amount@1"
    assert sorted(version["files"]) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "version" / "config.json").read_text()) == {"model_type": "mlp"}
    run = as_json(whole, "checkpoint", "export", "fit-1", str(tmp_path / "run"))
    name, _, step = run["source"].partition("@")
    assert name == "fit-1"
    named = bedplate(whole, "checkpoint", "export", run["source"], str(tmp_path / "named"))
    assert named.returncode == 0
    assert f"{name}@{step} is in {tmp_path / 'named'}: 1 file(s)" in named.stdout
    ours, theirs, again = (load_file(tmp_path / each / "model.safetensors") for each in ("version", "run", "named"))
    assert {key: tuple(value.shape) for key, value in ours.items()} == {key: tuple(value.shape) for key, value in theirs.items()}
    assert all(torch.equal(again[key], value) for key, value in theirs.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fit-1@999999", "its checkpoints are of the steps"),
        ("produce", "no such checkpoint"),
        ("visits@1", "this version is no model"),
        ("amount@77", "no such version"),
        ("nobody", "no such run"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(whole: Path, tmp_path: Path, name: str, message: str) -> None:
    assert message in refused(whole, "checkpoint", "export", name, str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("here")
    assert "lies there already" in refused(whole, "checkpoint", "export", "amount@1", str(tmp_path))
    assert "the config cannot be read" in refused(whole, "checkpoint", "export", "amount@1", str(tmp_path / "x"), "--config", "none.json")
