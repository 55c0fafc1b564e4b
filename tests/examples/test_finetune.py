"""The template for fine-tuning, with a real (tiny) Llama of `transformers`: adapter, merged weights, all weights; each names its base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bedplate.core.errors import CheckpointError, JobError
from bedplate.core.package import open_package
from bedplate.flow.opened import open_project
from cli.kit import bedplate

transformers = pytest.importorskip("transformers", reason="the extra `finetune` is not installed")
pytest.importorskip("peft", reason="the extra `finetune` is not installed")
TEXT = "a wheel rolls, a door opens, the sea is wide and the wheel rolls on\n"


def write_llama(folder: Path) -> Path:
    """A checkpoint as `transformers` writes it: two layers, a word-level tokenizer, a card with its license, and somebody's pickle."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = sorted(set(TEXT.replace(",", " ,").split()))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(["<unk>", "<end>", *words])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    sizes = {
        "vocab_size": len(words) + 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A small llama\n")
    torch.save({"epoch": 3, "optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1).__class__}, folder / "training_args.bin")
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project from the template, brought to a local checkpoint."""
    folder = tmp_path_factory.mktemp("tuned")
    assert bedplate(folder, "init", "--template", "finetune").returncode == 0
    write_llama(folder / "llama")
    (folder / "data").mkdir()
    (folder / "data" / "sea.txt").write_text(TEXT * 20)
    text = (folder / "bedplate.yaml").read_text()
    text = text.replace("hf://HuggingFaceTB/SmolLM2-135M", "dir://llama")
    (folder / "bedplate.yaml").write_text(text.replace("steps: 200, batch: 4, length: 256", "steps: 2, batch: 2, length: 8"))
    return folder


def test_an_adapter_a_merge_and_a_whole_model_are_versions_that_name_their_base(tuned: Path) -> None:
    with open_project(tuned) as project:
        runs = {run.step: run for run in project.run("tune")}
        base, adapter = project.version("base"), project.version("tune")
        assert base.meta["license"] == "apache-2.0", "the project and the card agree"
        assert [each["name"] for each in base.meta["left_out"]] == ["training_args.bin"], "a pickle beside safe weights stays outside"
        assert adapter.meta["base"] == {"version": "base@1", "digest": base.digest, "license": "apache-2.0"}
        assert runs["tune"].made["inputs"] == {"base": "base@1"}
        tree = project.lineage("tune@1")
        assert "base@1" in tree.text()
        state = tuned / ".bedplate"
        weights = load_file(state / adapter.location / "adapter_model.safetensors")
        assert all("lora_" in name for name in weights)
        signature = json.loads((state / adapter.location / "signature.json").read_text())
        assert [each["name"] for each in signature["inputs"]] == ["input_ids", "attention_mask"]
        assert str(tuned) not in (state / adapter.location / "adapter_config.json").read_text(), "a version names no place of this machine"
    with open_project(tuned, {"save": "merged"}) as project:
        project.run("tune")
        merged = project.version("tune@2")
        model = transformers.AutoModelForCausalLM.from_pretrained(tuned / ".bedplate" / merged.location)
        assert merged.meta["base"]["version"] == "base@1"
        before = load_file(tuned / ".bedplate" / base.location / "model.safetensors")
        after = model.state_dict()
        changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
        assert changed
        assert all("proj" in name for name in changed), "what LoRA does not touch is as it was"
    card = bedplate(tuned, "models", "show", "tune@1").stdout
    assert f"- base: base@1 ({base.digest[:12]})" in card


def test_a_base_that_changed_on_disk_is_noticed_before_it_is_trained(tuned: Path) -> None:
    with open_project(tuned, {"method": "full", "seed": "1"}) as project:
        project.run("base")
        version = project.version("base")
        place = tuned / ".bedplate" / version.location / "config.json"
        kept = place.read_bytes()
        place.unlink()  # the bytes are shared by a link: they are not written through
        place.write_bytes(kept.replace(b"llama", b"LLAMA"))
        with pytest.raises(CheckpointError, match=r"missing or damaged.*config\.json"):
            open_package(place.parent, version.digest)
        with pytest.raises(JobError, match=r"missing or damaged.*config\.json"):
            project.run("tune")
        place.write_bytes(kept)
        assert project.run("tune")[-1].outputs == ("tune@3",)
