"""MLflow's protocol: with the unmodified client in a process of its own, and byte by byte where a client does not go."""

from __future__ import annotations

import base64
import http.client
import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.models.mlflow_routes import ARTIFACTS, MAX_BODY_BYTES, MlflowRoutes, serve_mlflow

RUN = "train_delay-7"

CLIENT = textwrap.dedent("""
    import json, math, os, sys, tempfile
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    folder = sys.argv[1]
    seen = {}
    mlflow.set_experiment("whatever the script calls it")
    with mlflow.start_run(run_name="first", tags={"team": "flights"}) as run:
        seen["run"] = run.info.run_id
        mlflow.log_param("lr", 0.001)
        mlflow.log_params({"epochs": 2, "optimizer": "adamw"})
        mlflow.log_params({"epochs": 2})
        try:
            mlflow.log_param("lr", 0.1)
        except MlflowException as error:
            seen["changed"] = str(error)
        mlflow.set_tag("note", "ünïcode ✓")
        mlflow.set_tags({"a": 1, "b": "2"})
        for step in range(3):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metrics({"rmse": 15.5, "mae": 9.25}, step=10)
        mlflow.log_metric("bad", math.nan)
        mlflow.log_metric("worse", -math.inf)
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": 1}, "a dict.json")
        mlflow.log_text("", "empty.txt")
        with open(os.path.join(folder, "weights.bin"), "wb") as file:
            file.write(bytes(range(256)) * 20_000)
        mlflow.log_artifact(os.path.join(folder, "weights.bin"))
        with mlflow.start_run(nested=True, run_name="inner") as child:
            seen["child"] = child.info.run_id
            mlflow.log_metric("loss", 7.0, step=1)
            mlflow.log_param("lr", 5)
            mlflow.log_text("child", "notes.txt")
    client = MlflowClient()
    stored = client.get_run(run.info.run_id)
    seen["status"] = stored.info.status
    seen["name"] = stored.info.run_name
    seen["params"] = stored.data.params
    seen["metrics"] = {key: repr(value) for key, value in stored.data.metrics.items()}
    seen["tags"] = {key: value for key, value in stored.data.tags.items() if not key.startswith("mlflow.s") and key != "mlflow.user"}
    seen["history"] = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
    seen["files"] = [(file.path, file.is_dir, file.file_size) for file in client.list_artifacts(run.info.run_id)]
    seen["below"] = [file.path for file in client.list_artifacts(run.info.run_id, "notes")]
    seen["download"] = open(client.download_artifacts(run.info.run_id, "notes/hello.txt", folder)).read()
    seen["children"] = [found.info.run_id for found in client.search_runs(["0"], f"tags.mlflow.parentRunId = '{run.info.run_id}'")]
    seen["all"] = len(client.search_runs(["0"]))
    seen["experiment"] = client.get_experiment("0").name
    mlflow.log_metric("late", 1.5)
    seen["later"] = mlflow.active_run().info.run_id
    for name, call in {
        "registry": lambda: client.create_registered_model("delay"),
        "unknown": lambda: client.get_run("nobody"),
        "filter": lambda: client.search_runs(["0"], "metrics.rmse < 3"),
    }.items():
        try:
            call()
        except MlflowException as error:
            seen[name] = error.error_code
    print(json.dumps(seen))
""")


class Attempt:
    """The parts of one attempt that tracking touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts = folder / "out" / "artifacts"
        self.artifacts.mkdir(parents=True)
        self.journal = JournalWriter(folder, "shim")
        self.routes = MlflowRoutes(RUN, "train_delay", self.journal, self.artifacts)

    def entries(self, kind: str) -> list[Mapping[str, Any]]:
        return [entry.body for entry in JournalReader(self.folder).read() if entry.kind == kind]

    def values(self, kind: str) -> dict[str, Any]:
        return {key: value for body in self.entries(kind) for key, value in body["values"].items()}


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    made = Attempt(tmp_path / "attempt")
    yield made
    made.journal.close()


def run_script(script: str, environment: Mapping[str, str], folder: Path) -> dict[str, Any]:
    inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    command = [sys.executable, "-c", script, os.fspath(folder)]
    done = subprocess.run(command, env={**inherited, **environment}, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_script_with_the_unmodified_client(attempt: Attempt, tmp_path: Path) -> None:
    with serve_mlflow(attempt.routes) as environment:
        seen = run_script(CLIENT, environment, tmp_path)

    child = f"{RUN}-child-1"
    assert (seen["run"], seen["child"], seen["later"]) == (RUN, child, f"{RUN}-child-2")
    assert (seen["status"], seen["name"], seen["experiment"]) == ("FINISHED", "first", "train_delay")
    assert seen["params"] == {"lr": "0.001", "epochs": "2", "optimizer": "adamw"}
    assert seen["metrics"] == {"loss": repr(1 / 3), "rmse": "15.5", "mae": "9.25", "bad": "nan", "worse": "-inf"}
    assert seen["tags"] == {"team": "flights", "note": "ünïcode ✓", "a": "1", "b": "2", "mlflow.runName": "first"}
    assert seen["history"] == [[0, 1.0], [1, 0.5], [2, 1 / 3]]
    files = [["a dict.json", False, 10], ["empty.txt", False, 0], ["notes", True, None], ["weights.bin", False, 5_120_000]]
    assert [[name, folder, size and size] for name, folder, size in seen["files"]][1:] == files[1:]
    assert seen["below"] == ["notes/hello.txt"]
    assert seen["download"] == "hello"
    assert (seen["children"], seen["all"]) == ([child], 2)
    assert "Changing param values is not allowed" in seen["changed"]
    assert seen["registry"] == "ENDPOINT_NOT_FOUND"
    assert (seen["unknown"], seen["filter"]) == ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

    params = attempt.values("param")
    assert params == {"lr": "0.001", "epochs": "2", "optimizer": "adamw", "child-1/lr": "5"}
    tags = attempt.values("tag")
    assert (tags["team"], tags["note"], tags["child-1/mlflow.parentRunId"]) == ("flights", "ünïcode ✓", RUN)
    metrics = attempt.entries("metric")
    assert [body for body in metrics if "loss" in body["values"]] == [
        {"step": step, "values": {"loss": 1 / (step + 1)}} for step in range(3)
    ]
    assert {"step": 10, "values": {"rmse": 15.5, "mae": 9.25}} in metrics
    assert {"step": 1, "values": {"child-1/loss": 7.0}} in metrics
    assert {"step": 0, "values": {"child-2/late": 1.5}} in metrics
    assert math.isnan(attempt.values("metric")["bad"])
    assert attempt.values("metric")["worse"] == -math.inf

    assert (attempt.artifacts / "notes" / "hello.txt").read_text() == "hello"
    assert (attempt.artifacts / "weights.bin").read_bytes() == bytes(range(256)) * 20_000
    assert json.loads((attempt.artifacts / "a dict.json").read_text()) == {"a": 1}
    assert (attempt.artifacts / "empty.txt").read_bytes() == b""
    assert (attempt.artifacts / child / "notes.txt").read_text() == "child"


class Caller:
    """A plain HTTP client on one kept-alive connection."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(environment["MLFLOW_TRACKING_URI"]).netloc, timeout=30)
        pair = f"{environment['MLFLOW_TRACKING_USERNAME']}:{environment['MLFLOW_TRACKING_PASSWORD']}"
        self.authorization = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        chunked = not isinstance(data, bytes | type(None))
        self.connection.request(method, path, data, {**self.authorization, **headers}, encode_chunked=chunked)
        answer = self.connection.getresponse()
        content = answer.read()
        is_json = answer.getheader("Content-Type") == "application/json"
        return answer.status, json.loads(content) if is_json else content


@pytest.fixture
def call(attempt: Attempt) -> Iterator[Caller]:
    with serve_mlflow(attempt.routes) as environment:
        caller = Caller(environment)
        yield caller
        caller.connection.close()


def mlflow(path: str) -> str:
    return "/api/2.0/mlflow/" + path


def test_the_first_run_is_the_attempts_and_the_next_are_its_children(call: Caller) -> None:
    first, second, third = (call("POST", mlflow("runs/create"), {"start_time": 5})[1]["run"] for _ in range(3))
    assert [run["info"]["run_id"] for run in (first, second, third)] == [RUN, f"{RUN}-child-1", f"{RUN}-child-2"]
    assert {"key": "mlflow.parentRunId", "value": RUN} in second["data"]["tags"]
    assert first["info"]["artifact_uri"] == f"mlflow-artifacts:/{RUN}"


def test_a_batch_is_journaled_step_by_step(call: Caller, attempt: Attempt) -> None:
    points = [("a", 1.0, 1), ("b", 2.0, 1), ("a", 3.0, 1), ("a", 4.0, 2), ("a", "NaN", 2)]
    metrics = [{"key": key, "value": value, "timestamp": 1000, "step": step} for key, value, step in points]
    body = {"run_id": RUN, "metrics": metrics, "params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": "2"}]}
    assert call("POST", mlflow("runs/log-batch"), body) == (200, {})
    entries = attempt.entries("metric")
    assert entries[:3] == [
        {"step": 1, "values": {"a": 1.0, "b": 2.0}},
        {"step": 1, "values": {"a": 3.0}},
        {"step": 2, "values": {"a": 4.0}},
    ]
    assert math.isnan(entries[3]["values"]["a"])
    assert (attempt.values("param"), attempt.values("tag")) == ({"p": "1"}, {"t": "2"})


def test_a_refused_batch_leaves_nothing(call: Caller, attempt: Attempt) -> None:
    for metric in ({"key": "a"}, {"key": "a", "value": "many"}, {"value": 1.0}, {"key": "a", "value": 1, "step": "x"}):
        body = {"run_id": RUN, "metrics": [metric], "params": [{"key": "p", "value": "1"}]}
        assert call("POST", mlflow("runs/log-batch"), body)[1]["error_code"] == "INVALID_PARAMETER_VALUE"
    assert attempt.entries("param") == attempt.entries("metric") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", mlflow("registered-models/create"), {}, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", "/", None, 404, "ENDPOINT_NOT_FOUND"),
        ("DELETE", mlflow("runs/get"), None, 404, "ENDPOINT_NOT_FOUND"),
        ("GET", mlflow("runs/get?run_id=nobody"), None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", mlflow("runs/set-tag"), b"{not json", 400, "BAD_REQUEST"),
        ("POST", mlflow("runs/set-tag"), b"[1]", 400, "BAD_REQUEST"),
        ("POST", mlflow("runs/set-tag"), b"[" * 100_000, 400, "BAD_REQUEST"),
        ("POST", mlflow("runs/log-batch"), {"run_id": RUN, "metrics": 5}, 400, "INVALID_PARAMETER_VALUE"),
        ("POST", mlflow("runs/log-batch"), {"run_id": RUN, "tags": ["x"]}, 400, "INVALID_PARAMETER_VALUE"),
        ("GET", f"{ARTIFACTS}/{RUN}/nothing.txt", None, 404, "RESOURCE_DOES_NOT_EXIST"),
        ("PUT", f"{ARTIFACTS}/nobody/a.txt", b"x", 404, "RESOURCE_DOES_NOT_EXIST"),
        ("PUT", f"{ARTIFACTS}/{RUN}", b"x", 400, "INVALID_PARAMETER_VALUE"),
        ("PUT", mlflow("runs/get"), b"x", 400, "INVALID_PARAMETER_VALUE"),
    ],
)
def test_refusals_are_in_mlflows_form_and_keep_the_connection(
    call: Caller, method: str, path: str, body: Any, status: int, code: str
) -> None:
    assert (lambda answer: (answer[0], answer[1]["error_code"]))(call(method, path, body)) == (status, code)
    assert call("GET", mlflow("experiments/get?experiment_id=0"))[0] == 200


@pytest.mark.parametrize(
    "below", ["../escape.txt", "a/../../../escape.txt", "%2e%2e/escape.txt", "..%2fescape.txt", "/etc/escape.txt/..", "a%00b"]
)
def test_an_upload_stays_in_its_folder(call: Caller, attempt: Attempt, below: str) -> None:
    before = sorted(attempt.folder.parent.rglob("*"))
    status, answer = call("PUT", f"{ARTIFACTS}/{RUN}/{below}", b"x")
    outside = [
        path for path in attempt.folder.parent.rglob("*") if path.is_file() and path not in before and attempt.artifacts not in path.parents
    ]
    assert outside == []
    assert status == 200 or answer["error_code"] == "INVALID_PARAMETER_VALUE"


def test_a_link_does_not_lead_an_upload_outside(call: Caller, attempt: Attempt, tmp_path: Path) -> None:
    (attempt.artifacts / "link").symlink_to(tmp_path)
    assert call("PUT", f"{ARTIFACTS}/{RUN}/link/escape.txt", b"x")[0] == 400
    assert not (tmp_path / "escape.txt").exists()


def test_an_upload_in_chunks_replaces_the_file_before(call: Caller, attempt: Attempt) -> None:
    path = f"{ARTIFACTS}/{RUN}/model/weights.bin"
    assert call("PUT", path, iter([b"one", b"two" * 100_000]))[0] == 200
    assert call("PUT", path, iter([b"three", b"four"]))[0] == 200
    assert call("GET", path) == (200, b"threefour")
    assert [file.name for file in (attempt.artifacts / "model").iterdir()] == ["weights.bin"]
    assert call("PUT", f"{ARTIFACTS}/{RUN}/model", b"x")[0] == 400
    assert call("PUT", f"{ARTIFACTS}/{RUN}/model/weights.bin/below", b"x")[0] == 400


def test_an_upload_that_breaks_off_leaves_no_file(call: Caller, attempt: Attempt) -> None:
    call.connection.putrequest("PUT", f"{ARTIFACTS}/{RUN}/half.bin")
    for name, value in {**call.authorization, "Content-Length": "1000000"}.items():
        call.connection.putheader(name, value)
    call.connection.endheaders(b"only this")
    assert call.connection.sock is not None
    call.connection.sock.shutdown(1)
    assert call.connection.getresponse().status == 400
    call.connection.close()
    assert list(attempt.artifacts.iterdir()) == []


def test_only_who_has_the_password_is_answered(attempt: Attempt) -> None:
    with serve_mlflow(attempt.routes) as environment:
        for authorization in ({}, {"Authorization": "Basic bm9ib2R5Om5vdGhpbmc="}, {"Authorization": "Bearer x"}):
            caller = Caller(environment)
            caller.authorization = authorization
            assert caller("POST", mlflow("runs/set-tag"), {"run_id": RUN, "key": "a", "value": "b"})[0] == 401
            assert caller("PUT", f"{ARTIFACTS}/{RUN}/a.txt", b"x")[0] == 401
            caller.connection.close()
    assert attempt.entries("tag") == []
    assert list(attempt.artifacts.iterdir()) == []


def test_a_huge_request_is_refused(call: Caller) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // (1 << 20) + 1):
            yield b" " * (1 << 20)

    assert call("POST", mlflow("runs/set-tag"), body())[0] == 413


@pytest.mark.parametrize("length", ["-5", "many", "1e3", "+3"])
def test_a_body_without_a_proper_length_is_refused(call: Caller, length: str) -> None:
    call.connection.putrequest("POST", mlflow("runs/set-tag"))
    for name, value in {**call.authorization, "Content-Length": length}.items():
        call.connection.putheader(name, value)
    call.connection.endheaders()
    assert call.connection.getresponse().status == 400
