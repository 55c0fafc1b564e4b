"""Models that functions save and commands leave, as versions; and the model that a job starts from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LinearRegression

from bedplate.core.attempt import Attempt
from bedplate.core.errors import CheckpointError, DataError, JobError, UnsafeArtifact
from bedplate.core.journal import JournalWriter
from bedplate.core.package import open_package
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.job import JobRun
from bedplate.flow.steps.model import work as import_model
from bedplate.flow.steps.models import base_facts, base_folder, folder_output, saved_output
from bedplate.flow.tracking import tracking
from bedplate.train.runtimes.estimator import read
from flow.world import as_inputs, attempt, said
from models.foreign.test_sources import checkpoint
from models.packaging.test_formats import Evil

pytestmark = pytest.mark.usefixtures("clean_imports")


def job(folder: Path, **spec: Any) -> Attempt:
    return attempt(folder, "fit", "job", {"params": {"lr": 0.1}, "outputs": [], **spec})


def test_an_estimator_that_a_function_saves_is_a_version_by_skops(tmp_path: Path) -> None:
    made = job(tmp_path)
    estimator = LinearRegression().fit(numpy.arange(6.0).reshape(3, 2), numpy.arange(3.0))
    output = JobRun(StepContext(made)).save(estimator)
    assert said(made, "output") == [output.to_json()]
    folder = Path(made.state) / output.location
    manifest = open_package(folder, output.digest)
    assert (output.name, output.kind, manifest["weights"], manifest["params"]) == ("fit", "model", ["skops"], {"lr": 0.1})
    assert set(manifest["libraries"]) == {"scikit-learn", "skops"}
    again = read(folder / "model.skops")
    assert again.predict([[1.0, 2.0]]) == estimator.predict([[1.0, 2.0]])


def test_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no model that can be saved \(got 'dict'\)"):
        saved_output(job(tmp_path), {"weights": 1}, None)


def leave(made: Attempt, *, pickled: bool = False) -> None:
    """What a command leaves in its folder of outputs."""
    folder = made.out / "model"
    folder.mkdir(parents=True)
    save_file({"w": torch.ones(2)}, folder / "model.safetensors")
    if pickled:
        (folder / "scaler.pkl").write_bytes(pickle.dumps(Evil()))


def test_files_that_a_command_left_become_a_version_named_by_the_project(tmp_path: Path) -> None:
    made = job(tmp_path, model="delay", packages={"numpy": "2.1"}, command="true")
    assert folder_output(made) is None
    with tracking(made, JournalWriter(made.path, "shim")):
        leave(made)
    [output] = said(made, "output")
    manifest = open_package(Path(made.state) / output["location"], output["digest"])
    assert (output["name"], output["kind"]) == ("delay", "model")
    assert "model.safetensors" in manifest["files"]
    assert '"numpy": "2.1"' in (Path(made.state) / output["location"] / "environment.json").read_text(), "what its code imports"


def test_a_pickle_that_a_command_left_is_told_with_its_digest_until_it_is_trusted(tmp_path: Path) -> None:
    made = job(tmp_path, command="true")
    leave(made, pickled=True)
    with pytest.raises(UnsafeArtifact, match=r"loading scaler\.pkl could run code") as caught:
        folder_output(made)
    with tracking(made, JournalWriter(made.path, "shim")):
        pass
    [failure] = said(made, "failure")
    assert failure["refused"]
    assert str(caught.value.value) in failure["message"]
    trusting = job(tmp_path, command="true", trusted=[caught.value.value])
    leave(trusting, pickled=True)
    assert folder_output(trusting) is not None
    (trusting.out / "model" / "model.safetensors").unlink()
    (trusting.out / "model" / "scaler.pkl").unlink()
    (trusting.out / "model" / "notes.txt").write_text("no weights")
    with pytest.raises(DataError, match="no weights"):
        folder_output(trusting)


def test_a_job_starts_from_a_checked_base_and_what_it_saves_names_it(tmp_path: Path) -> None:
    checkpoint(tmp_path / "base")
    base = attempt(tmp_path, "base", "model", {"from": "dir://base", "license": None, "files": []})
    import_model(base)
    inputs = as_inputs(base)
    made = job(tmp_path, base="base")
    made = attempt(tmp_path, "fit", "job", made.spec, inputs=inputs)
    run = JobRun(StepContext(made))
    assert (run.base / "model.safetensors").is_file()
    output = run.save(run.base)
    assert output.meta["base"] == {"version": "base@1", "digest": inputs["base"]["digest"], "license": "apache-2.0"}
    assert open_package(Path(made.state) / output.location, output.digest)["base"] == output.meta["base"]
    config = Path(inputs["base"]["path"]) / "config.json"
    config.unlink()
    config.write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        base_folder(made)


def test_a_job_without_a_base_has_none(tmp_path: Path) -> None:
    assert base_facts(job(tmp_path)) == {}
    with pytest.raises(JobError, match=r"starts from no model.*base: MODEL"):
        _ = JobRun(StepContext(job(tmp_path))).base
