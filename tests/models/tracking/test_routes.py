"""The routes together, through the unmodified client: a script that uses MLflow as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bedplate.models.tracking import routes
from bedplate.models.tracking.routes import ROUTES
from models.tracking.kit import Api, served

SCRIPT = textwrap.dedent("""
    import json, math, sys, time
    import mlflow
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    folder, seen = sys.argv[1], {}
    mlflow.set_experiment("delays")
    mlflow.set_experiment_tag("team", "flights")
    with mlflow.start_run(run_name="outer", tags={"a": "b"}, log_system_metrics=True) as run:
        mlflow.log_params({"lr": 0.1, "depth": 3})
        for step in range(3):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"acc": 0.75, "odd": math.nan}, step=3)
        with mlflow.start_run(nested=True, run_name="inner") as child:
            mlflow.log_metric("inner", 3)
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": 1}, "a dict.json")
        with open(folder + "/weights.bin", "wb") as file:
            file.write(b"12345" * 1_000_000)
        mlflow.log_artifact(folder + "/weights.bin", "model")
        time.sleep(1.5)
    client = MlflowClient()
    now = 1_700_000_000_000
    client.log_batch(run.info.run_id, [Metric("batch", n, now + n, n) for n in range(1000)], [Param("p", "q")], [RunTag("t", "u")])
    stored = client.get_run(run.info.run_id)
    seen["params"], seen["status"] = stored.data.params, stored.info.status
    seen["metrics"] = {key: repr(value) for key, value in stored.data.metrics.items() if not key.startswith("system/")}
    seen["system"] = sum(key.startswith("system/") for key in stored.data.metrics)
    seen["loss"] = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
    seen["batch"] = len(client.get_metric_history(run.info.run_id, "batch"))
    seen["files"] = sorted((file.path, file.is_dir) for file in client.list_artifacts(run.info.run_id))
    seen["text"] = mlflow.artifacts.load_text(stored.info.artifact_uri + "/notes/hello.txt")
    seen["dict"] = mlflow.artifacts.load_dict(stored.info.artifact_uri + "/a dict.json")
    seen["size"] = len(open(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model/weights.bin"), "rb").read())
    experiment = [run.info.experiment_id]
    seen["children"] = [each.info.run_name for each in client.search_runs(experiment, f"tags.mlflow.parentRunId = '{run.info.run_id}'")]
    seen["found"] = [each.info.run_name for each in client.search_runs(experiment, "metrics.acc > 0.5 and params.lr = '0.1'")]
    seen["ordered"] = [each.info.run_name for each in client.search_runs(experiment, order_by=["metrics.inner DESC", "start_time"])]
    try:
        client.log_param(run.info.run_id, "lr", 5)
    except MlflowException as error:
        seen["changed"] = error.error_code
    client.create_registered_model("delay", {"team": "x"}, "minutes late")
    version = client.create_model_version("delay", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("delay", "champion", version.version)
    seen["alias"] = client.get_model_version_by_alias("delay", "champion").version
    client.set_model_version_tag("delay", "1", "q", "w")
    seen["versions"] = [(each.version, each.tags) for each in client.search_model_versions("name = 'delay'")]
    seen["models"] = [each.name for each in client.search_registered_models("name LIKE 'del%'")]
    seen["uri"] = client.get_model_version_download_uri("delay", "1")
    client.delete_registered_model_alias("delay", "champion")
    client.delete_model_version("delay", "1")
    client.delete_registered_model("delay")
    model = client.create_logged_model(experiment[0], name="lm", source_run_id=run.info.run_id, params={"p": "1"})
    seen["logged"] = str(client.finalize_logged_model(model.model_id, "READY").status)
    seen["logged found"] = [each.name for each in client.search_logged_models(experiment)]
    @mlflow.trace
    def add(a, b):
        return a + b
    add(1, 2)
    mlflow.flush_trace_async_logging()
    [trace] = mlflow.search_traces(locations=experiment, return_type="list")
    seen["spans"] = [span.name for span in client.get_trace(trace.info.trace_id).data.spans]
    client.delete_run(child.info.run_id)
    seen["left"] = len(client.search_runs(experiment))
    client.restore_run(child.info.run_id)
    client.rename_experiment(experiment[0], "late")
    seen["experiment"] = (client.get_experiment(experiment[0]).name, client.get_experiment(experiment[0]).tags)
    seen["experiments"] = [each.name for each in client.search_experiments(filter_string="name = 'late'")]
    print(json.dumps(seen))
""")


def run_script(port: int, folder: Path, **environment: str) -> dict[str, object]:
    inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    inherited |= {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1"}
    inherited |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING": "1", **environment}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, os.fspath(folder)]
    done = subprocess.run(command, env=inherited, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1]))


def test_a_script_with_the_unmodified_client(tmp_path: Path) -> None:
    with served(tmp_path / "state") as port:
        parts = {"MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true", "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000"}
        seen = run_script(port, tmp_path, **parts, MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE="2000000")
    assert (seen["params"], seen["status"]) == ({"lr": "0.1", "depth": "3", "p": "q"}, "FINISHED")
    assert seen["metrics"] == {"loss": repr(1 / 3), "acc": "0.75", "odd": "nan", "batch": "999.0"}
    assert seen["system"]
    assert (seen["loss"], seen["batch"]) == ([[0, 1.0], [1, 0.5], [2, 1 / 3]], 1000)
    assert seen["files"] == [["a dict.json", False], ["model", True], ["notes", True]]
    assert (seen["text"], seen["dict"], seen["size"]) == ("hello", {"a": 1}, 5_000_000)
    assert (seen["children"], seen["found"], seen["ordered"]) == (["inner"], ["outer"], ["inner", "outer"])
    assert seen["changed"] == "INVALID_PARAMETER_VALUE"
    assert (seen["alias"], seen["versions"], seen["models"]) == ("1", [["1", {"q": "w"}]], ["delay"])
    assert str(seen["uri"]).startswith("runs:/")
    assert (seen["logged"], seen["logged found"], seen["spans"]) == ("READY", ["lm"], ["add"])
    assert (seen["left"], seen["experiment"], seen["experiments"]) == (1, ["late", {"team": "flights"}], ["late"])


@pytest.mark.parametrize("route", ["POST gateway-proxy", "GET users/get", "POST webhooks", "DELETE runs/get", "POST runs/none"])
def test_what_is_not_served_says_so(api: Api, route: str) -> None:
    method, _, path = route.partition(" ")
    assert api.refused(method, path)[:2] == (404, "ENDPOINT_NOT_FOUND")


def test_no_route_fails_on_values_that_make_no_sense(api: Api) -> None:
    """Whatever a value is, the answer is one, or an error that names the request's fault: never a failure of the server's."""
    wrongs = (
        None,
        "",
        "x" * 10,
        7,
        -1,
        1.5,
        True,
        [],
        [1],
        {},
        {"a": []},
        "\0",
        "../..",
        "\ud800",
        {"trace_info": {"tags": [1], "trace_location": 3}},
    )
    names = "name version key value metrics params tags filter order_by max_results path page_token trace datasets models status alias"
    more = "experiment_id experiment_ids run_ids metric_key experiment_name source text locations description stage new_name trace_ids"
    run = api.run()
    for route in ROUTES:
        method, _, path = route.partition(" ")
        path = path.replace("{model_id}", "m-1").replace("{trace_id}", "tr-1").replace("{request_id}", "tr-1").replace("{tag_key}", "k")
        for wrong in wrongs:
            body = {**dict.fromkeys((*names.split(), *more.split()), wrong), "run_id": run}
            answer = routes.answer(api.tracking, method, path, "", json.dumps(body).encode(), "http://x")
            api.tracking.commit()
            assert answer.status != 500, (route, wrong)


def test_a_failure_inside_is_an_id_for_the_client_and_a_line_in_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(api.tracking, "fresh", broken)
    status, code, message = api.refused("GET", "experiments/get", experiment_id="0")
    assert (status, code, "disk" in message) == (500, "INTERNAL_ERROR", False)
    [identity] = [word for word in message.split() if len(word) == 12]
    assert identity in caplog.text
    assert "the disk is gone" in caplog.text
