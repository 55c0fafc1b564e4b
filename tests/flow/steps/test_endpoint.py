"""The endpoint step: a live replica, its lookups, and an answer traced back to where it came from."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bedplate.core.attempt import read_attempt
from bedplate.core.errors import CheckpointError
from bedplate.flow.answers import find_answer
from bedplate.flow.opened import OpenProject
from bedplate.flow.steps.endpoint import work


def test_an_answer_of_a_live_replica_is_remembered_and_leads_back_to_the_stream(served: tuple[Path, OpenProject]) -> None:
    _, project = served
    (run,) = project.runs("amounts")
    assert run.status == "ready"
    url = f"http://127.0.0.1:{run.port}"
    answer = httpx.post(f"{url}/predict", json={"id": 599}, timeout=20)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == "amount@1"
    assert httpx.post(f"{url}/predict", json={"id": 10_000}, timeout=20).status_code == 404
    for _ in range(200):
        if httpx.get(f"{url}/health", timeout=20).json()["answers"]["written"]:
            break
        project._workspace.clock.sleep(0.05)
    kept = find_answer(project._workspace, body["id"])
    assert (kept["prediction"], kept["request"], kept["run"]) == (pytest.approx(body["prediction"]), {"id": 599}, run.id)
    text = project.lineage(body["id"]).text()
    for part in ("decision amount@1 -> production", "endpoint amounts on 127.0.0.1", "run fit-1", "run visits-1", "run produce-1"):
        assert part in text, text


def test_a_project_that_is_up_stays_up_when_it_is_brought_up_again(served: tuple[Path, OpenProject]) -> None:
    _, project = served
    assert project.up() == []
    assert "serving on 127.0.0.1" in project.plan().step("amounts").why


@pytest.mark.usefixtures("clean_imports")
def test_a_model_whose_bytes_changed_since_the_decision_is_not_served(served: tuple[Path, OpenProject], tmp_path: Path) -> None:
    _, project = served
    (run,) = project.runs("amounts")
    done = read_attempt(project._workspace.attempt_folder(run.id, run.state.token))
    copy, own = tmp_path / "model", Path(done.state) / "runs" / f"{tmp_path.name}-1" / "1"
    own.mkdir(parents=True)
    shutil.copytree(done.inputs["amount"]["path"], copy)
    changed = {**done.inputs, "amount": {**done.inputs["amount"], "path": str(copy)}}
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    with pytest.raises(CheckpointError, match=r"a model's file is missing or damaged \(got '.*model.safetensors'\)"):
        work(replace(done, folder=str(own), inputs=changed))
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="a model's manifest was changed"):
        work(replace(done, folder=str(own), inputs=changed))
