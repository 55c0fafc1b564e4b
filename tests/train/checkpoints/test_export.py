"""Weights as the Hugging Face Hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bedplate.core.errors import CheckpointError
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.package import seal
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.export import export_checkpoint, export_committed, export_version, export_weights, shards
from bedplate.train.checkpoints.folders import disk
from bedplate.train.checkpoints.reading import Stored, opened
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper
from train.samples import attempt_in, journal_of


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    found = {file: load_file(folder / file) for file in set(index["weight_map"].values())}
    return {name: found[file][name] for name, file in index["weight_map"].items()}


def test_one_file_has_no_index(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    (file,) = export_weights(tmp_path / "out", layer.state_dict())
    assert file == tmp_path / "out" / "model.safetensors"
    assert torch.equal(load_file(file)["weight"], layer.weight)


def test_several_files_have_an_index_of_all_tensors(tmp_path: Path) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(16, 16) for _ in range(5)))
    files = export_weights(tmp_path / "out", model.state_dict(), shard_bytes=2500)
    assert [file.name for file in files] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ]
    found = loaded(tmp_path / "out")
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
    assert json.loads(files[-1].read_text())["metadata"]["total_size"] == sum(each.nbytes for each in model.state_dict().values())


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 60))
def test_files_are_no_larger_than_they_may_be_and_in_order(sizes: list[int], limit: int) -> None:
    named = {str(number): size for number, size in enumerate(sizes)}
    found = shards(named, limit)
    assert [name for names in found for name in names] == list(named)
    assert all(len(names) == 1 or sum(named[name] for name in names) <= limit for names in found)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lies there"):
        export_weights(tmp_path, {"w": torch.ones(1)})


def checkpoint_of(state: Path, module: torch.nn.Module) -> Stored:
    attempt = attempt_in(state)
    keeper = Keeper(attempt, JournalWriter(attempt.path, "rank-0"), Group(0, 1), torch.device("cpu"))
    keeper.save(Position(0, 0, 1, 1), [module], {})
    keeper.wait()
    known = journal_of(attempt, "checkpoint")[-1].body
    return opened(known["location"], known["digest"], [disk(state)])


def journal_known(state: Path) -> dict[str, Any]:
    """What the journal of the attempt in `state` says of its newest checkpoint."""
    bodies = [entry.body for entry in JournalReader(state / "runs" / "r1" / "1").read() if entry.kind == "checkpoint"]
    return dict(bodies[-1])


def test_a_checkpoint_becomes_a_model_that_transformers_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    stored = checkpoint_of(tmp_path / "state", model)
    files = export_checkpoint(tmp_path / "out", stored, config=config, shard_bytes=8000)
    assert files[-1].name == "config.json"
    assert len(files) > 3
    other = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokens = torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        assert torch.equal(other(tokens).logits, model(tokens).logits)


def test_only_a_module_can_be_exported(tmp_path: Path) -> None:
    stored = checkpoint_of(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match="no module"):
        export_checkpoint(tmp_path / "out", stored, 1)


def test_a_committed_checkpoint_is_exported_from_the_tier_that_has_it_and_progress_adds_up(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    checkpoint_of(tmp_path / "state", model)
    known = journal_known(tmp_path / "state")
    told: list[tuple[int, int]] = []
    (file,) = export_committed(tmp_path / "out", known, tmp_path / "state", ["disk"], told=lambda done, total: told.append((done, total)))
    assert all(torch.equal(load_file(file)[name], tensor) for name, tensor in model.state_dict().items())
    whole = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert [total for _, total in told] == [whole] * 4
    assert told[-1] == (whole, whole)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_damaged_bytes_are_not_exported_and_leave_nothing(tmp_path: Path) -> None:
    checkpoint_of(tmp_path / "state", torch.nn.Linear(64, 64))
    known = journal_known(tmp_path / "state")
    (part,) = (tmp_path / "state").glob("**/part-0.safetensors")
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    (tmp_path / "to").mkdir()
    with pytest.raises(CheckpointError, match="damaged"):
        export_committed(tmp_path / "to" / "out", known, tmp_path / "state", None)
    assert not list((tmp_path / "to").iterdir())


def test_a_model_version_is_exported_with_its_config(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4)
    (tmp_path / "version").mkdir()
    save_file(model.state_dict(), tmp_path / "version" / "model.safetensors")
    (tmp_path / "version" / "config.json").write_text('{"hidden_size": 4}')
    digest, _ = seal(tmp_path / "version", {})
    files = export_version(tmp_path / "out", tmp_path / "version", digest, shard_bytes=20)
    assert [file.name for file in files][-2:] == ["model.safetensors.index.json", "config.json"]
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"hidden_size": 4}
    assert all(torch.equal(loaded(tmp_path / "out")[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "model.skops").write_text("x")
        export_version(tmp_path / "out2", tmp_path / "other", seal(tmp_path / "other", {})[0])
