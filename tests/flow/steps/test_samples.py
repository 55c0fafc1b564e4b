"""Text and images from files to a trained, graded model: the step, and a whole project of real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bedplate.core.attempt import Attempt
from bedplate.core.spec import Dataset, ImageInputs, Split, TextInputs
from bedplate.data.feed.samples import SampleFeed, open_feed
from bedplate.flow.opened import open_project
from bedplate.flow.steps import ingest, training_set
from bedplate.train.bundle import ModelVersion
from data.documents import image, tokenizer
from flow.world import as_inputs, attempt, said

pytestmark = pytest.mark.usefixtures("clean_imports")

PROJECT = """
project: small
jobs:
  train_tokenizer: {function: train.py:train_tokenizer, outputs: [tokenizer.json]}
  train_lm:
    function: train.py:train
    inputs: {text: corpus.text, tokenizer: train_tokenizer, sequence: 16}
    params: {batch_size: 8}
    resources: {cpus: 0.5}
datasets:
  corpus: {source: "text/**/*.txt"}
models:
  lm: {from: train_lm, evaluate: train.py:evaluate, predict: train.py:predict, promote: {when: ["loss <= 10"]}}
"""
CODE = """
import sys
import torch

def train_tokenizer(run):
    sys.path.insert(0, TESTS)
    from data.documents import tokenizer
    tokenizer(run.root / "tokenizer.json")

class Net(torch.nn.Module):
    def __init__(self, signature):
        super().__init__()
        self.embed = torch.nn.Embedding(signature.vocabulary, 16)
        self.out = torch.nn.Linear(16, signature.vocabulary)
    def forward(self, tokens):
        return self.out(self.embed(tokens))

def loss_of(model, batch):
    tokens = batch["tokens"]
    return torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

def train(run, batch_size):
    model = run.parallelize(lambda: Net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for batch in run.batches("train", epochs=2, batch_size=batch_size, state=[model, optimizer]):
        assert batch["tokens"].shape == (8, run.signature.sequence + 1) and batch["tokens"].dtype == torch.int64
        run.log(loss=run.backward(loss_of, batch))
        run.update(optimizer, clip=1.0)
    rows = sum(len(batch["tokens"]) for batch in run.batches("valid", batch_size=7))
    run.log(valid_rows=rows)
    return run.save(model)

def evaluate(version, feed):
    model = version.module(lambda: Net(version.signature))
    losses = [loss_of(model, batch).item() * len(batch["tokens"]) for batch in version.batches(feed, "test", 4)]
    return {"loss": sum(losses) / feed.rows("test"), "rows": feed.rows("test")}

def predict(version, rows):
    return [0.0 for _ in rows]
"""


def dataset(source: str, **fields: Any) -> dict[str, Any]:
    return Dataset.model_validate({"source": source, **fields}).model_dump(mode="json")


def derived(folder: Path, declared: dict[str, Any], inputs: TextInputs | ImageInputs) -> Attempt:
    """The training-set step over an ingested dataset."""
    ingested = attempt(folder, inputs.dataset, "ingest", {"dataset": declared})
    assert ingest.work(ingested) == 0
    spec = {
        "inputs": inputs.model_dump(mode="json"),
        "split": Split().model_dump(mode="json"),
        "datasets": {inputs.dataset: declared},
        "tokenizer": "tokenizer.json",
    }
    made = attempt(folder, "fit.inputs", "training_set", spec, inputs=as_inputs(ingested))
    assert training_set.work(made) == 0
    return made


def feed_of(folder: Path, made: Attempt, cache: Path) -> SampleFeed:
    (output,) = said(made, "output")
    feed = open_feed(folder / ".bedplate" / output["location"], cache, 10**9)
    assert isinstance(feed, SampleFeed)
    assert output["meta"]["rows"] == sum(output["meta"]["splits"].values())
    assert output["meta"]["splits"]["train"] == feed.rows("train")
    return feed


def texts(folder: Path, count: int = 60) -> None:
    (folder / "text").mkdir()
    for number in range(count):
        (folder / "text" / f"{number:03d}.txt").write_text(f"document {number} says {number * number}")


def test_text_is_derived_below_the_state_and_a_second_job_finds_it(tmp_path: Path) -> None:
    texts(tmp_path)
    tokenizer(tmp_path / "tokenizer.json")
    inputs = TextInputs(text="corpus.text", tokenizer="tokenizer.json", sequence=16)
    made = derived(tmp_path, dataset("text/**/*.txt"), inputs)
    feed = feed_of(tmp_path, made, tmp_path / "cache")
    assert feed.columns("train")["tokens"].shape[1] == 17
    again = attempt(tmp_path, "other.inputs", "training_set", dict(made.spec), inputs=made.inputs)
    assert training_set.work(again) == 0
    assert [said(each, "output")[0]["location"] for each in (made, again)] == [f"derived/{feed._folder.name}"] * 2
    assert said(made, "progress")[-1]["unit"] == "documents"


def test_a_set_in_a_store_is_read_through_the_cache(tmp_path: Path) -> None:
    texts(tmp_path)
    tokenizer(tmp_path / "tokenizer.json")
    inputs = TextInputs(text="corpus.text", tokenizer="tokenizer.json", sequence=16, store="shared")
    feed = feed_of(tmp_path, derived(tmp_path, dataset("text/**/*.txt"), inputs), tmp_path / "cache")
    assert len(list(feed.batches("train", batch_size=4, rank=0, world_size=1, epoch=0, seed=0))) == feed.rows("train") // 4
    assert feed.tokenizer is not None
    assert feed.counters()["bytes_read"] > 0
    assert list((tmp_path / "shared").glob("*.shard"))
    feed.close()


def test_images_by_path(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    lines = ["path,kind"]
    for number in range(30):
        (tmp_path / "photos" / f"{number}.png").write_bytes(image(number))
        lines.append(f"photos/{number}.png,{'cat' if number % 2 else 'dog'}")
    (tmp_path / "photos.csv").write_text("\n".join([*lines, ""]))
    inputs = ImageInputs(images="photos.path", label="photos.kind", size=(8, 10))
    declared = dataset("photos.csv", columns={"path": "string", "kind": "string"})
    feed = feed_of(tmp_path, derived(tmp_path, declared, inputs), tmp_path / "cache")
    columns = feed.columns("train")
    assert columns["images"].shape[1:] == (3, 8, 10)
    assert set(np.unique(columns["kind"])) == {0, 1}


def test_a_project_from_text_files_to_a_graded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEDPLATE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "small"
    folder.mkdir()
    texts(folder, 120)
    (folder / "bedplate.yaml").write_text(PROJECT)
    (folder / "train.py").write_text(CODE.replace("TESTS", repr(str(Path(__file__).parents[2]))))
    with open_project(folder) as project:
        project.up()
        version = project.version("lm@production")
        loaded = ModelVersion(folder / ".bedplate" / version.location, digest=version.digest)
        assert (loaded.signature.kind, loaded.signature.sequence) == ("tokens", 16)
        assert loaded.encode([{"text": "document 1"}])["tokens"].shape == (1, 10)
        assert [planned.verdict for planned in project.plan().steps] == ["fresh"] * 5
        (folder / "text" / "new.txt").write_text("one more document")
        verdicts = {planned.step.name: planned.verdict for planned in project.plan().steps}
        assert verdicts == {"train_tokenizer": "fresh", "corpus": "run", "train_lm.inputs": "waits", "train_lm": "waits", "lm": "waits"}
