"""A replay: the same digests from the record, and every kind of difference named; nothing of the project is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow.facts import location_of
from bedplate.flow.opened import OpenProject, open_project
from bedplate.flow.replaying import Replay, replay

PROJECT = """
project: delays
jobs:
  rows: {command: "python rows.py", outputs: [data/rows.csv]}
  wobble: {function: wobble.py:wobble}
  fit:
    function: fit.py:fit
    inputs: {spine: flights, columns: [distance, carrier], label: flights.delay}
    params: {epochs: 2}
datasets:
  flights:
    {source: data/rows.csv, key: [id], known_at: at, backfill: trusted,
     columns: {id: int, at: timestamp, carrier: string, distance: float, delay: float}}
models:
  delay: {from: fit, evaluate: fit.py:evaluate, predict: fit.py:predict, promote: {to: production, when: ["rmse < 1000"]}}
"""
ROWS = """
import datetime, pathlib
start = datetime.datetime(2024, 1, 1)
lines = ["id,at,carrier,distance,delay"]
for n in range(200):
    at = start + datetime.timedelta(hours=n)
    lines.append(f"{n},{at.isoformat()},{'AA' if n % 3 else 'UA'},{n % 17},{2 * (n % 17) + n % 3}")
pathlib.Path("data").mkdir(exist_ok=True)
pathlib.Path("data/rows.csv").write_text("\\n".join(lines) + "\\n")
"""
FIT = """
import numpy as np
import torch
from net import Net


def fit(run, epochs=2):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    model = run.parallelize(lambda: Net(run.signature))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for batch in run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=32):
        run.backward(lambda net, each: torch.mean((net(each) - each["label"]) ** 2), batch)
        run.update(optimizer, clip=1.0)
    return run.save(model)


def predict(version, rows):
    net = version.module(lambda: Net(version.signature))
    return [float(value) for value in net(version.encode(rows))]


def evaluate(version, feed):
    net = version.module(lambda: Net(version.signature))
    predicted = np.concatenate([net(batch).numpy() for batch in version.batches(feed, "test")])
    return {"rmse": float(np.sqrt(np.mean((predicted - feed.columns("test")["delay"]) ** 2)))}
"""
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, signature):
        super().__init__()
        self.body = nn.Linear(signature.numeric_width, 1)
        self.mean, self.scale = float(signature.label_mean), float(signature.label_std)

    def forward(self, batch):
        return self.mean + self.scale * self.body(batch["numeric"]).squeeze(1)
"""
WOBBLE = "import os\n\n\ndef wobble(run):\n    run.log(number=float(int.from_bytes(os.urandom(4), 'big')))\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenProject]:
    """A project of real steps, run once up to its gate."""
    folder = tmp_path_factory.mktemp("replayed") / "delays"
    folder.mkdir()
    for name, text in {"bedplate.yaml": PROJECT, "rows.py": ROWS, "fit.py": FIT, "net.py": NET, "wobble.py": WOBBLE}.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEDPLATE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("BEDPLATE_STATE", raising=False)
        with open_project(folder) as opened:
            opened.up("delay")
            opened.run("wobble")
            yield opened


def again(project: OpenProject, run: str, scratch: Path, here: bool = False) -> Replay:
    return replay(project._workspace, run, scratch / "replay", here)


def said(found: Replay) -> dict[str, str]:
    """What differs, by aspect."""
    return {aspect.name: aspect.said for aspect in found.aspects if not aspect.agrees}


@pytest.mark.parametrize("step", ["rows", "fit.inputs", "fit", "delay"])
def test_every_kind_of_step_gives_the_same_again(project: OpenProject, step: str, tmp_path: Path) -> None:
    head, notes = project._workspace.ledger.head(), (project._workspace.project.root / "data" / "rows.csv").stat().st_mtime_ns
    found = again(project, step, tmp_path)
    assert found.agrees, found.text()
    assert [aspect.name for aspect in found.aspects] == ["data", "code", "environment", "results"] and found.notes == ()
    assert project._workspace.ledger.head() == head, "nothing is recorded"
    assert (project._workspace.project.root / "data" / "rows.csv").stat().st_mtime_ns == notes, "and no file is written"


def test_code_that_changed_is_named_and_replayed_only_on_request(project: OpenProject, tmp_path: Path) -> None:
    file = project._workspace.project.root / "net.py"
    before = file.read_text()
    try:
        file.write_text(before.replace("self.mean + self.scale", "1 + self.scale"))
        found = again(project, "fit", tmp_path)
        assert found.agrees
        assert found.notes == ("the project's code is another now: the file net.py changed (--here replays with it)",)
        other = said(again(project, "fit", tmp_path / "here", here=True))
        assert other["code"] == "the file net.py changed"
        assert other["results"].startswith("the output delay: the file model.safetensors differs: the array body.")
    finally:
        file.write_text(before)


def test_a_snapshot_that_was_changed_is_named_and_not_run(project: OpenProject, tmp_path: Path) -> None:
    snapshot = project._workspace.code_store / project._workspace.records.run("fit").made["code"]["snapshot"]
    kept = (snapshot / "fit.py").read_text()
    try:
        (snapshot / "fit.py").write_text(kept + "\n")
        assert said(again(project, "fit", tmp_path)) == {
            "code": "the file fit.py changed",
            "results": "not run: what it needs is not there as it was",
        }
    finally:
        (snapshot / "fit.py").write_text(kept)


def test_a_package_of_another_version_is_named(project: OpenProject, tmp_path: Path) -> None:
    run = project._workspace.records.run("rows")
    components, records, kept = run.made["components"], project._workspace.records, run.made
    try:
        records.runs[run.id] = replace(run, made={**kept, "components": {**components, "packages": [["numpy", "1.0.0"]]}})
        differs = said(again(project, run.id, tmp_path))
        assert differs["environment"].startswith("the package numpy was 1.0.0 and is ") and "results" not in differs
        records.runs[run.id] = replace(run, made={**kept, "components": {**components, "packages": [["no-such-package", "3"]]}})
        assert said(again(project, run.id, tmp_path / "2"))["environment"] == "the package no-such-package was 3 and is not installed"
        records.runs[run.id] = replace(run, made={**kept, "environment": {**kept["environment"], "python": "2.7.18"}})
        assert said(again(project, run.id, tmp_path / "3"))["environment"].startswith("python: was 2.7.18")
        lists = project._workspace.state / "environments"
        packages = json.loads((lists / f"{kept['environment']['lock']}.json").read_text())
        (lists / "other.json").write_text(json.dumps([entry for entry in packages if not entry.startswith("torch==")]))
        records.runs[run.id] = replace(run, made={**kept, "environment": {**kept["environment"], "lock": "other"}})
        assert said(again(project, run.id, tmp_path / "4"))["environment"].startswith("the package torch was not installed and is ")
    finally:
        records.runs[run.id] = run


def test_an_input_that_was_damaged_or_is_gone_is_named(project: OpenProject, tmp_path: Path) -> None:
    place = location_of(project._workspace, project._workspace.records.version("fit.inputs"))
    moved = place.with_name("moved")
    file = next(path for path in sorted(place.iterdir()) if path.stat().st_size > 100 and path.suffix != ".json")
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        assert said(again(project, "fit", tmp_path))["data"] == f"the input fit.inputs (fit.inputs@1): the file {file.name} changed"
        file.write_bytes(kept)
        shutil.move(place, moved)
        assert said(again(project, "fit", tmp_path / "2"))["data"] == "the input fit.inputs (fit.inputs@1): it is gone"
    finally:
        if moved.exists():
            shutil.move(moved, place)
        file.write_bytes(kept)


def test_what_is_never_the_same_is_shown_with_both_numbers(project: OpenProject, tmp_path: Path) -> None:
    differs = said(again(project, "wobble", tmp_path))
    assert set(differs) == {"results"} and differs["results"].startswith("the metric number was ")


def test_what_cannot_be_replayed_says_so(project: OpenProject, tmp_path: Path) -> None:
    with pytest.raises(BedplateError, match="a run of kind 'ingest' is not replayed"):
        again(project, "flights", tmp_path)
    with pytest.raises(NotFound, match="no such run"):
        again(project, "nothing", tmp_path)
