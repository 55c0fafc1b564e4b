"""The same requests to `mlflow server` and to ours, sound ones and broken ones: status, error code and form must agree. For `make soak`.

MLflow's server runs in an environment of its own. What differs on purpose stands in DIFFERENT, with the reason, and in
docs/reference/mlflow.md. `python tests/models/tracking/yardstick.py` prints every other difference and ends with 1 if there is one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.peers import python_of  # noqa: E402 - found by the line above

from models.tracking.kit import Client, served  # noqa: E402 - found by the line above
from models.tracking.peers import PEER  # noqa: E402 - found by the line above

API = "/api/2.0/mlflow/"
Case = tuple[str, str, dict[str, Any], dict[str, str]]
LONG = "k" * 251
MANY = [{"key": f"k{number}", "value": "v"} for number in range(101)]


def case(method: str, path: str, body: dict[str, Any] | None = None, **keep: str) -> Case:
    """A request; `keep` names what to remember of the answer: NAME="path.into.it", said as `$NAME` in what follows."""
    return method, path, body or {}, keep


def bad(method: str, path: str, *bodies: dict[str, Any]) -> list[Case]:
    """The same request with several bodies."""
    return [case(method, path, body) for body in bodies]


EXPERIMENTS = [
    case("POST", "experiments/create", {"name": "one"}, exp="experiment_id"),
    *bad("POST", "experiments/create", {"name": "one"}, {}, {"name": ""}, {"name": 3}, {"name": "a", "tags": {"a": 1}}, {"name": None}),
    case("POST", "experiments/create", {"name": "two", "tags": [{"key": "team", "value": "blue"}]}, two="experiment_id"),
    case("GET", "experiments/get", {"experiment_id": "$two"}),
    *bad("GET", "experiments/get", {}, {"experiment_id": "999999"}, {"experiment_id": "abc"}),
    case("GET", "experiments/get-by-name", {"experiment_name": "two"}),
    *bad("GET", "experiments/get-by-name", {}, {"experiment_name": "nobody"}),
    case("POST", "experiments/search", {"max_results": 10}),
    case("POST", "experiments/search", {"max_results": 1}),
    case("POST", "experiments/search", {"max_results": 10, "filter": "name LIKE 't%'"}),
    case("POST", "experiments/search", {"max_results": 10, "filter": "tags.team = 'blue'", "order_by": ["name DESC"]}),
    case("GET", "experiments/search", {"max_results": 10}),
    *bad("POST", "experiments/search", {}, {"max_results": 0}, {"max_results": -1}, {"max_results": 50_001}, {"max_results": "x"}),
    *bad("POST", "experiments/search", {"max_results": 5, "filter": "nonsense"}, {"max_results": 5, "filter": "name > 'a'"}),
    *bad("POST", "experiments/search", {"max_results": 5, "order_by": ["nothing"]}, {"max_results": 5, "page_token": "zzz"}),
    case("POST", "experiments/set-experiment-tag", {"experiment_id": "$exp", "key": "a", "value": "b"}),
    *bad("POST", "experiments/set-experiment-tag", {}, {"experiment_id": "$exp"}, {"experiment_id": "$exp", "key": "a"}),
    *bad("POST", "experiments/set-experiment-tag", {"experiment_id": "$exp", "key": LONG, "value": "b"}),
    *bad("POST", "experiments/set-experiment-tag", {"experiment_id": "$exp", "key": "a", "value": "b" * 5001}),
    case("POST", "experiments/delete-experiment-tag", {"experiment_id": "$exp", "key": "a"}),
    *bad("POST", "experiments/delete-experiment-tag", {"experiment_id": "$exp", "key": "a"}, {"experiment_id": "$exp"}),
    case("POST", "experiments/update", {"experiment_id": "$two", "new_name": "three"}),
    *bad("POST", "experiments/update", {}, {"experiment_id": "$two", "new_name": "one"}, {"experiment_id": "999999", "new_name": "x"}),
    case("POST", "experiments/delete", {"experiment_id": "$two"}),
    *bad("POST", "experiments/delete", {"experiment_id": "$two"}, {}, {"experiment_id": "999999"}),
    case("POST", "experiments/update", {"experiment_id": "$two", "new_name": "four"}),
    case("POST", "experiments/create", {"name": "three"}),
    case("POST", "experiments/search", {"max_results": 10, "view_type": "DELETED_ONLY"}),
    case("POST", "experiments/restore", {"experiment_id": "$two"}),
    *bad("POST", "experiments/restore", {"experiment_id": "$two"}, {}, {"experiment_id": "999999"}),
]
RUNS = [
    case("POST", "runs/create", {"experiment_id": "$exp", "start_time": 1, "run_name": "first", "user_id": "me"}, run="run.info.run_id"),
    case(
        "POST",
        "runs/create",
        {"experiment_id": "$exp", "start_time": 2, "tags": [{"key": "mlflow.runName", "value": "b"}]},
        second="run.info.run_id",
    ),
    *bad("POST", "runs/create", {}, {"experiment_id": "999999"}, {"experiment_id": "$exp", "start_time": "soon"}, {"experiment_id": 0.5}),
    *bad("POST", "runs/create", {"experiment_id": "$exp", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]}),
    *bad("POST", "runs/create", {"experiment_id": "$two", "tags": "no"}, {"experiment_id": "$two", "run_name": 4}),
    case("POST", "runs/create", {"experiment_id": "$two", "run_name": "scratch"}, scratch="run.info.run_id"),
    case("GET", "runs/get", {"run_id": "$run"}),
    case("GET", "runs/get", {"run_uuid": "$run"}),
    *bad("GET", "runs/get", {}, {"run_id": "nobody"}, {"run_id": "f" * 32}),
    case("POST", "runs/log-metric", {"run_id": "$run", "key": "loss", "value": 0.5, "timestamp": 10, "step": 1}),
    case("POST", "runs/log-metric", {"run_id": "$run", "key": "loss", "value": 0.25, "timestamp": 20, "step": 2}),
    case("POST", "runs/log-metric", {"run_id": "$run", "key": "nan", "value": "NaN", "timestamp": 20, "step": 0}),
    case("POST", "runs/log-metric", {"run_id": "$run", "key": "inf", "value": "Infinity", "timestamp": 20}),
    case("POST", "runs/log-metric", {"run_id": "$run", "key": "a/b c", "value": 1, "timestamp": 20}),
    *bad("POST", "runs/log-metric", {}, {"run_id": "$run"}, {"run_id": "$run", "key": "loss"}, {"run_id": "$run", "key": "m", "value": 1}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": "m", "value": "much", "timestamp": 1}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1, "timestamp": "now"}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": "m", "value": 1, "timestamp": 1, "step": "one"}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": LONG, "value": 1, "timestamp": 1}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": "../up", "value": 1, "timestamp": 1}),
    *bad("POST", "runs/log-metric", {"run_id": "$run", "key": "a?b", "value": 1, "timestamp": 1}),
    *bad("POST", "runs/log-metric", {"run_id": "nobody", "key": "m", "value": 1, "timestamp": 1}),
    case("POST", "runs/log-parameter", {"run_id": "$run", "key": "lr", "value": "0.1"}),
    case("POST", "runs/log-parameter", {"run_id": "$run", "key": "lr", "value": "0.1"}),
    *bad(
        "POST", "runs/log-parameter", {"run_id": "$run", "key": "lr", "value": "0.2"}, {}, {"run_id": "$run"}, {"run_id": "$run", "key": 4}
    ),
    *bad(
        "POST", "runs/log-parameter", {"run_id": "$run", "key": LONG, "value": "1"}, {"run_id": "$scratch", "key": "p", "value": "v" * 6001}
    ),
    *bad("POST", "runs/log-parameter", {"run_id": "nobody", "key": "p", "value": "v"}, {"run_id": "$run", "key": "", "value": "v"}),
    case("POST", "runs/set-tag", {"run_id": "$run", "key": "team", "value": "blue"}),
    *bad("POST", "runs/set-tag", {}, {"run_id": "$run"}, {"run_id": "$run", "key": LONG, "value": "1"}, {"run_id": "nobody", "key": "a"}),
    *bad("POST", "runs/set-tag", {"run_id": "$scratch", "key": "t", "value": "v" * 8001}, {"run_id": "$scratch", "key": "t", "value": 1}),
    case("POST", "runs/delete-tag", {"run_id": "$run", "key": "team"}),
    *bad("POST", "runs/delete-tag", {"run_id": "$run", "key": "team"}, {}, {"run_id": "$run"}, {"run_id": "nobody", "key": "a"}),
    case(
        "POST",
        "runs/log-batch",
        {
            "run_id": "$run",
            "metrics": [{"key": "acc", "value": 0.9, "timestamp": 30, "step": 0}],
            "params": [{"key": "seed", "value": "7"}],
            "tags": [{"key": "kind", "value": "test"}],
        },
    ),
    case("POST", "runs/log-batch", {"run_id": "$run"}),
    *bad("POST", "runs/log-batch", {}, {"run_id": "nobody"}, {"run_id": "$run", "params": MANY}, {"run_id": "$run", "tags": MANY}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 0}] * 1001}),
    *bad("POST", "runs/log-batch", {"run_id": "$scratch", "metrics": [{"key": "m", "value": "x", "timestamp": 1}]}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "metrics": {}}, {"run_id": "$run", "params": "no"}, {"run_id": "$run", "tags": 3}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "params": [{"key": "q", "value": "1"}, {"key": "q", "value": "2"}]}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "params": [{"key": "lr", "value": "9"}]}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "metrics": [{"key": "m", "timestamp": 1, "step": 0}]}),
    *bad("POST", "runs/log-batch", {"run_id": "$run", "tags": [{"value": "no key"}]}),
    case("GET", "metrics/get-history", {"run_id": "$run", "metric_key": "loss"}),
    case("GET", "metrics/get-history", {"run_id": "$run", "metric_key": "never"}),
    case("GET", "metrics/get-history", {"run_id": "$run", "metric_key": "loss", "max_results": 1}),
    *bad("GET", "metrics/get-history", {}, {"run_id": "$run"}, {"metric_key": "loss"}),
    case("GET", "runs/get", {"run_id": "$run"}),
    case("POST", "runs/update", {"run_id": "$run", "status": "FINISHED", "end_time": 99}),
    case("POST", "runs/update", {"run_id": "$run", "run_name": "renamed"}),
    *bad(
        "POST",
        "runs/update",
        {},
        {"run_id": "nobody", "status": "FINISHED"},
        {"run_id": "$run", "status": "DONE"},
        {"run_id": "$run", "end_time": "x"},
    ),
    case("POST", "runs/search", {"experiment_ids": ["$exp"]}),
    case("POST", "runs/search", {"experiment_ids": ["$exp"], "max_results": 1}),
    case("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "metrics.loss < 1 and params.lr = '0.1'"}),
    case("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "tags.kind LIKE 'te%'", "order_by": ["metrics.loss DESC"]}),
    case("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "attributes.status = 'FINISHED'"}),
    case("POST", "runs/search", {"experiment_ids": []}),
    case("POST", "runs/search", {"experiment_ids": ["999999"]}),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "metrics.loss"}, {"experiment_ids": ["$exp"], "filter": "loss < x"}),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "params.lr < 1"}, {"experiment_ids": "$exp"}),
    *bad(
        "POST",
        "runs/search",
        {"experiment_ids": ["$exp"], "filter": "metrics.loss < 'a'"},
        {"experiment_ids": ["$exp"], "max_results": 50_001},
    ),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "max_results": 0}, {"experiment_ids": ["$exp"], "order_by": ["what DESC"]}),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "page_token": "zzz"}, {"experiment_ids": ["$exp"], "run_view_type": "SOME"}),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "params.lr = '1' or params.lr = '2'"}),
    *bad("POST", "runs/search", {"experiment_ids": ["$exp"], "filter": "thing.lr = '1'"}, {"experiment_ids": ["$exp"], "filter": 3}),
    case("POST", "runs/delete", {"run_id": "$second"}),
    *bad("POST", "runs/delete", {}, {"run_id": "nobody"}),
    *bad("POST", "runs/log-metric", {"run_id": "$second", "key": "m", "value": 1, "timestamp": 1}),
    *bad("POST", "runs/set-tag", {"run_id": "$second", "key": "m", "value": "1"}),
    case("POST", "runs/search", {"experiment_ids": ["$exp"], "run_view_type": "DELETED_ONLY"}),
    case("POST", "runs/restore", {"run_id": "$second"}),
    *bad("POST", "runs/restore", {}, {"run_id": "nobody"}),
    case("GET", "artifacts/list", {"run_id": "$run"}),
    *bad("GET", "artifacts/list", {}, {"run_id": "nobody"}, {"run_id": "$run", "path": "../.."}, {"run_id": "$run", "path": "/etc"}),
    case(
        "POST",
        "runs/log-inputs",
        {
            "run_id": "$run",
            "datasets": [
                {
                    "tags": [{"key": "mlflow.data.context", "value": "train"}],
                    "dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "{}"},
                }
            ],
        },
    ),
    *bad(
        "POST",
        "runs/log-inputs",
        {},
        {"run_id": "nobody", "datasets": []},
        {"run_id": "$scratch", "datasets": [{"dataset": {"name": "d"}}]},
    ),
    *bad("POST", "runs/log-inputs", {"run_id": "$scratch", "datasets": "no"}, {"run_id": "$scratch", "datasets": [{}]}),
]
REGISTRY = [
    case("POST", "registered-models/create", {"name": "m", "description": "text", "tags": [{"key": "a", "value": "b"}]}),
    *bad("POST", "registered-models/create", {"name": "m"}, {}, {"name": ""}, {"name": "a/b"}, {"name": "a:b"}, {"name": 3}),
    case("GET", "registered-models/get", {"name": "m"}),
    *bad("GET", "registered-models/get", {}, {"name": "nobody"}),
    case("PATCH", "registered-models/update", {"name": "m", "description": "other"}),
    *bad("PATCH", "registered-models/update", {}, {"name": "nobody", "description": "x"}),
    case("POST", "model-versions/create", {"name": "m", "source": "mlflow-artifacts:/$exp/$run/artifacts/model", "run_id": "$run"}),
    *bad("POST", "model-versions/create", {}, {"name": "m"}, {"name": "nobody", "source": "mlflow-artifacts:/x"}),
    *bad("POST", "model-versions/create", {"name": "m", "source": "/etc/passwd"}, {"name": "m", "source": "file:///etc"}),
    case("GET", "model-versions/get", {"name": "m", "version": "1"}),
    *bad("GET", "model-versions/get", {}, {"name": "m"}, {"name": "m", "version": "9"}, {"name": "m", "version": "x"}),
    case("PATCH", "model-versions/update", {"name": "m", "version": "1", "description": "the first"}),
    *bad("PATCH", "model-versions/update", {}, {"name": "m", "version": "9", "description": "x"}),
    case("POST", "model-versions/transition-stage", {"name": "m", "version": "1", "stage": "Staging"}),
    *bad("POST", "model-versions/transition-stage", {"name": "m", "version": "1", "stage": "Elsewhere"}, {"name": "m"}),
    *bad("POST", "model-versions/transition-stage", {"name": "m", "version": "9", "stage": "Production"}),
    case("GET", "registered-models/get-latest-versions", {"name": "m"}),
    case("POST", "registered-models/get-latest-versions", {"name": "m", "stages": ["Staging"]}),
    *bad("POST", "registered-models/get-latest-versions", {}, {"name": "nobody"}, {"name": "m", "stages": ["Elsewhere"]}),
    case("POST", "registered-models/set-tag", {"name": "m", "key": "k", "value": "v"}),
    *bad(
        "POST",
        "registered-models/set-tag",
        {},
        {"name": "m"},
        {"name": "nobody", "key": "k", "value": "v"},
        {"name": "m", "key": LONG, "value": "v"},
    ),
    case("DELETE", "registered-models/delete-tag", {"name": "m", "key": "k"}),
    *bad("DELETE", "registered-models/delete-tag", {}, {"name": "m"}, {"name": "nobody", "key": "k"}, {"name": "m", "key": "never"}),
    case("POST", "model-versions/set-tag", {"name": "m", "version": "1", "key": "k", "value": "v"}),
    *bad("POST", "model-versions/set-tag", {}, {"name": "m", "version": "9", "key": "k", "value": "v"}, {"name": "m", "version": "1"}),
    case("DELETE", "model-versions/delete-tag", {"name": "m", "version": "1", "key": "k"}),
    *bad("DELETE", "model-versions/delete-tag", {}, {"name": "m", "version": "9", "key": "k"}),
    case("POST", "registered-models/alias", {"name": "m", "alias": "champion", "version": "1"}),
    *bad(
        "POST",
        "registered-models/alias",
        {},
        {"name": "m", "alias": "latest", "version": "1"},
        {"name": "m", "alias": "v1", "version": "1"},
    ),
    *bad("POST", "registered-models/alias", {"name": "m", "alias": "a", "version": "9"}, {"name": "nobody", "alias": "a", "version": "1"}),
    *bad("POST", "registered-models/alias", {"name": "m", "alias": "", "version": "1"}, {"name": "m", "alias": "a b!", "version": "1"}),
    case("GET", "registered-models/alias", {"name": "m", "alias": "champion"}),
    *bad("GET", "registered-models/alias", {}, {"name": "m", "alias": "never"}, {"name": "nobody", "alias": "champion"}),
    case("GET", "model-versions/get-download-uri", {"name": "m", "version": "1"}),
    *bad("GET", "model-versions/get-download-uri", {}, {"name": "m", "version": "9"}),
    case("GET", "registered-models/search", {}),
    case("GET", "registered-models/search", {"filter": "name LIKE 'm%'", "max_results": 5, "order_by": "name DESC"}),
    *bad("GET", "registered-models/search", {"filter": "nonsense"}, {"max_results": 0}, {"max_results": 100_001}, {"order_by": "what"}),
    *bad("GET", "registered-models/search", {"filter": "name > 'a'"}, {"page_token": "zzz"}),
    case("GET", "model-versions/search", {"filter": "name = 'm'"}),
    case("GET", "model-versions/search", {"filter": "run_id = '$run'"}),
    *bad("GET", "model-versions/search", {"filter": "nonsense"}, {"max_results": 0}, {"max_results": 300_000}, {"filter": "what = 'a'"}),
    case("DELETE", "registered-models/alias", {"name": "m", "alias": "champion"}),
    *bad("DELETE", "registered-models/alias", {}, {"name": "nobody", "alias": "a"}, {"name": "m", "alias": "never"}),
    case("POST", "registered-models/create", {"name": "empty"}),
    case("POST", "registered-models/rename", {"name": "empty", "new_name": "renamed"}),
    *bad(
        "POST",
        "registered-models/rename",
        {},
        {"name": "nobody", "new_name": "x"},
        {"name": "renamed", "new_name": "m"},
        {"name": "renamed"},
    ),
    case("DELETE", "model-versions/delete", {"name": "m", "version": "1"}),
    *bad("DELETE", "model-versions/delete", {}, {"name": "m", "version": "1"}, {"name": "nobody", "version": "1"}),
    case("DELETE", "registered-models/delete", {"name": "renamed"}),
    *bad("DELETE", "registered-models/delete", {"name": "renamed"}, {}),
]
LOGGED = [
    case(
        "POST",
        "logged-models",
        {"experiment_id": "$exp", "name": "net", "params": [{"key": "a", "value": "1"}]},
        model="model.info.model_id",
    ),
    *bad(
        "POST",
        "logged-models",
        {},
        {"experiment_id": "999999"},
        {"experiment_id": "$exp", "name": "a/b"},
        {"experiment_id": "$exp", "params": "x"},
    ),
    case("GET", "logged-models/$model"),
    *bad("GET", "logged-models/nobody", {}),
    case("PATCH", "logged-models/$model", {"model_id": "$model", "status": "LOGGED_MODEL_READY"}),
    *bad("PATCH", "logged-models/nobody", {"model_id": "nobody", "status": "LOGGED_MODEL_READY"}),
    *bad("PATCH", "logged-models/$model", {"status": "what"}, {}),
    case("PATCH", "logged-models/$model/tags", {"tags": [{"key": "a", "value": "b"}]}),
    *bad("PATCH", "logged-models/nobody/tags", {"tags": [{"key": "a", "value": "b"}]}),
    case("POST", "logged-models/$model/params", {"model_id": "$model", "params": [{"key": "b", "value": "2"}]}),
    case("DELETE", "logged-models/$model/tags/a"),
    *bad("DELETE", "logged-models/$model/tags/never", {}),
    case("POST", "logged-models/search", {"experiment_ids": ["$exp"]}),
    *bad(
        "POST",
        "logged-models/search",
        {},
        {"experiment_ids": ["$exp"], "filter": "nonsense"},
        {"experiment_ids": ["$exp"], "max_results": 0},
    ),
    case("DELETE", "logged-models/$model"),
    *bad("DELETE", "logged-models/$model", {}),
    *bad("GET", "logged-models/$model", {}),
]
OTHERS = [
    case("GET", "/health"),
    *bad("GET", "nothing/here", {}),
    *bad("POST", "runs/get", {"run_id": "$run"}),
    *bad("GET", "runs/create", {}),
]
CASES = [*EXPERIMENTS, *RUNS, *REGISTRY, *LOGGED, *OTHERS]

UNTOLD = ("workspace",)  # there are none

# What differs on purpose: a part of how a case is told, and why.
DIFFERENT: dict[str, str] = {
    "POST experiments/search {}": "a page has a size of its own accord; clients always say one",
    'experiments/update {"experiment_id": "$two", "new_name": "one"}': "the code that create has, and not the database's error",
    'experiments/update {"experiment_id": "$two", "new_name": "four"}': "a mistake of the caller's is no internal error",
    "POST runs/create {}": "without an experiment it is the default one, as its documentation says; MLflow's database refuses it",
    'runs/create {"experiment_id": "$two", "tags": "no"}': "what is no list of tags is refused, not passed over",
    'runs/log-parameter {"run_id": "$scratch"': "too long for the client's own limits is too long here",
    'runs/set-tag {"run_id": "$scratch", "key": "t", "value": "v': "as above",
    'runs/log-batch {"run_id": "$scratch"': "what is no number is refused, not stored as 0",
    '"status": "DONE"': "a status that is none is refused, not passed over",
    '"run_view_type": "SOME"': "a view that is none is refused, not passed over",
    'runs/log-inputs {"run_id": "$scratch"': "a dataset without its name or digest is refused, not stored empty",
    'model-versions/create {"name": "nobody"': "both are wrong; what is missing is said first",
    "GET registered-models/search {}": "versions show their aliases in lists too",
    'GET registered-models/search {"filter": "name LIKE': "as above",
    "GET model-versions/search": "as above",
    '"max_results": 0': "a page of nothing is refused everywhere alike",
    "nothing/here": "an error is JSON, also where there is no route",
    "POST runs/get": "as above",
    "GET runs/create": "as above",
}


@contextmanager
def mlflow_served(folder: Path) -> Iterator[int]:
    """MLflow's own server on a free port, with the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python_of("mlflow", PEER), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=inherited, start_new_session=True)
    try:
        end_s = time.monotonic() + 120
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < end_s, (folder / "log").read_text()
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, 9)
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        return Client(port).call("GET", "/health")[0] == 200
    except OSError:
        return False


class Side:
    """One of the two servers, and what its answers said so far."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.known: dict[str, str] = {}

    def ask(self, asked: Case) -> tuple[int, Any]:
        """The status, and the JSON or text, of an answer."""
        method, path, body, keep = asked
        whole = self._filled(path if path.startswith("/") else API + path)
        told = json.loads(self._filled(json.dumps(body)))
        client = Client(self.port)
        if method == "GET":
            status, data = client.call("GET", whole + ("?" + urlencode(told, doseq=True) if told else ""))
        else:
            status, data = client.call(method, whole, json.dumps(told).encode(), {"Content-Type": "application/json"})
        client.close()
        try:
            answer = json.loads(data)
        except ValueError:
            return status, data.decode(errors="replace")[:80]
        for name, place in keep.items():
            value = answer
            for part in place.split("."):
                value = value[part]
            self.known[name] = str(value)
        return status, answer

    def _filled(self, text: str) -> str:
        return re.sub(r"\$(\w+)", lambda found: self.known.get(found[1], found[0]), text)


def form(answer: Any) -> Any:
    """What is compared: for an error its code, else the names and types of fields, and how many there are in a list."""
    if isinstance(answer, dict) and "error_code" in answer:
        return {"error_code": answer["error_code"]}
    if isinstance(answer, dict):
        told = {name: form(value) for name, value in sorted(answer.items()) if name not in UNTOLD}
        return {name: value for name, value in told.items() if value not in ([], {}, "empty")}  # protobuf's JSON leaves out what is empty
    if isinstance(answer, list):
        return sorted(json.dumps(form(each), sort_keys=True) for each in answer)
    if answer in ("NaN", "Infinity", "-Infinity"):  # MLflow's database has the greatest number for an infinity
        return "float"
    return type(answer).__name__ if answer != "" else "empty"


def shown(answer: Any) -> str:
    """An error as it is, for its words; else what is compared."""
    return json.dumps(answer if isinstance(answer, dict) and "error_code" in answer else form(answer))[:600]


def main() -> int:
    differences, told_apart = [], 0
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "state") as port, mlflow_served(Path(folder)) as theirs:
        ours, peer = Side(port), Side(theirs)
        for asked in CASES:
            (status, answer), (wanted, said) = ours.ask(asked), peer.ask(asked)
            if (status, form(answer)) == (wanted, form(said)):
                continue
            told = f"{asked[0]} {asked[1]} {json.dumps(asked[2])[:150]}"
            if any(part in told for part in DIFFERENT):
                told_apart += 1
            else:
                differences.append("\n".join([told, f"   ours  {status} {shown(answer)}", f"   peer  {wanted} {shown(said)}"]))
    print("\n".join(differences))
    alike = len(CASES) - len(differences) - told_apart
    print(f"{len(CASES)} requests: {alike} answered alike, {told_apart} differ on purpose, {len(differences)} differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
