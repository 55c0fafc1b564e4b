"""MLflow's tracking protocol, as much of REST 2.0 as a training script uses, over the journal of one attempt.

A script keeps its `mlflow` calls: the client finds the address, the credentials and the run in its environment, and what it logs is
written to the journal (`metric`, `param`, `tag`) and, for artifacts, below the attempt's artifact folder. There is one experiment, the
step, whatever name the script asks for. The run of the attempt belongs to whoever starts first or names it; every further run is a
child of it: its metrics, params and tags are journaled under `child-N/`, its artifacts in a folder with its id.
Standard library only: this runs inside the small shim. Written against mlflow-skinny 3.17.2, whose protocol is described by
https://mlflow.org/docs/latest/api_reference/rest-api.html and `mlflow/protos/service.proto`.
Does not know: the ledger, the registry, or what a metric means. State is in memory and ends with the attempt.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import os
import re
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from bedplate.core.atomic import confined, sync
from bedplate.core.errors import BedplateError
from bedplate.core.journal import JournalWriter

API = "/api/2.0/mlflow/"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
EXPERIMENT_ID = "0"  # the id of MLflow's default experiment, which a client uses when it names none
MAX_BODY_BYTES = 8 << 20
MAX_HISTORY = 10_000
USER = "bedplate"
_BLOCK_BYTES = 1 << 20
_IDLE_S = 120
_JSON = "application/json"
_PARENT = "mlflow.parentRunId"
_CLAUSE = re.compile(r"""(tags|tag|params|param)\.[`"]?([\w./ -]+?)[`"]?\s*=\s*(?:'([^']*)'|"([^"]*)")""")


class Answer(NamedTuple):
    """An HTTP answer: status, content type, and the body, or the file that is the body."""

    status: int
    content_type: str
    body: bytes | Path


class _Refused(Exception):
    """A request that cannot be answered: MLflow's error code, the HTTP status that goes with it, a message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class _Point(NamedTuple):
    step: int
    timestamp_ms: int
    value: float


@dataclass
class _Run:
    id: str
    name: str
    prefix: str
    start_ms: int
    status: str = "RUNNING"
    end_ms: int | None = None
    user: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, deque[_Point]] = field(default_factory=dict)


class MlflowRoutes:
    """The routes of one attempt. `handle` and `store` may be called from several threads."""

    def __init__(self, run: str, experiment: str, journal: JournalWriter, artifacts: Path) -> None:
        """`run` and `experiment` are what the client sees; `artifacts` is the folder that uploads go to."""
        self.run_id = run
        self._experiment = experiment
        self._journal = journal
        self._artifacts = artifacts
        self._lock = Lock()
        self._started_ms = _now_ms()
        self._runs = {run: _Run(run, run, "", self._started_ms)}
        self._claimed = False
        self._table: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            ("GET", "experiments/get"): self._experiment_get,
            ("GET", "experiments/get-by-name"): self._experiment_get,
            ("POST", "experiments/create"): lambda _: {"experiment_id": EXPERIMENT_ID},
            ("POST", "experiments/search"): lambda _: {"experiments": [self._experiment_json()]},
            ("POST", "runs/create"): self._create,
            ("GET", "runs/get"): self._get,
            ("POST", "runs/update"): self._update,
            ("POST", "runs/search"): self._search,
            ("POST", "runs/log-parameter"): lambda body: self._log(body, params=[body]),
            ("POST", "runs/log-metric"): lambda body: self._log(body, metrics=[body]),
            ("POST", "runs/set-tag"): lambda body: self._log(body, tags=[body]),
            ("POST", "runs/log-batch"): self._log_batch,
            ("GET", "metrics/get-history"): self._history,
            ("GET", "artifacts/list"): self._list,
            ("POST", "logged-models/search"): lambda _: {"models": []},  # the client looks here, too, when it lists artifacts
        }

    def handle(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request; `path` is decoded and without the query. Errors come in MLflow's own JSON form, never as exceptions."""
        try:
            if method == "GET" and path.startswith(f"{ARTIFACTS}/"):
                return self._download(path)
            if method == "GET" and path == ARTIFACTS:
                run, _, below = query.get("path", "").strip("/").partition("/")
                return _json(200, {"files": self._files(self._run(run), below)})
            handler = self._table.get((method, path.removeprefix(API))) if path.startswith(API) else None
            if handler is None:
                raise _Refused("ENDPOINT_NOT_FOUND", f"this tracking endpoint has no route {method} {path}", 404)
            values = query if method == "GET" else _object(body)
            with self._lock:
                return _json(200, handler(values))
        except _Refused as error:
            return refusal(error.status, error.code, error.message)

    def store(self, path: str, blocks: Iterable[bytes]) -> Answer:
        """Take an upload to `path`: the file appears whole, when the last block came, or not at all."""
        try:
            target = self._place(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(target, blocks)
        except _Refused as error:
            return refusal(error.status, error.code, error.message)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            return refusal(400, "INVALID_PARAMETER_VALUE", f"a file and a folder cannot have one name: {error.strerror}")
        return _json(200, {})

    def _experiment_get(self, _query: Mapping[str, Any]) -> dict[str, Any]:
        return {"experiment": self._experiment_json()}

    def _experiment_json(self) -> dict[str, Any]:
        return {
            "experiment_id": EXPERIMENT_ID,
            "name": self._experiment,
            "artifact_location": "mlflow-artifacts:/",
            "lifecycle_stage": "active",
            "creation_time": self._started_ms,
            "last_update_time": self._started_ms,
        }

    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            raise _Refused("RESOURCE_DOES_NOT_EXIST", f"Run '{run_id}' not found", 404)
        return self._runs[run_id]

    def _named(self, values: Mapping[str, Any]) -> _Run:
        return self._run(str(values.get("run_id") or values.get("run_uuid") or ""))

    def _create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tags = _pairs(_items(body, "tags"))
        if self._claimed or _PARENT in tags:
            number = len(self._runs)
            run = _Run(f"{self.run_id}-child-{number}", "", f"child-{number}/", 0)
            tags = {_PARENT: self.run_id, **tags}
            self._runs[run.id] = run
        else:
            run = self._runs[self.run_id]
            self._claimed = True
        run.start_ms = int(body.get("start_time") or _now_ms())
        run.user = str(body.get("user_id", ""))
        run.name = str(body.get("run_name") or tags.get("mlflow.runName") or run.name or run.id)
        self._tag(run, {"mlflow.runName": run.name, **tags})
        return {"run": _run_json(run)}

    def _get(self, query: Mapping[str, Any]) -> dict[str, Any]:
        return {"run": _run_json(self._named(query))}

    def _update(self, body: Mapping[str, Any]) -> dict[str, Any]:
        run = self._named(body)
        self._claimed = self._claimed or run.id == self.run_id
        run.status = str(body.get("status") or run.status)
        run.end_ms = int(body["end_time"]) if body.get("end_time") else run.end_ms
        if body.get("run_name"):
            run.name = str(body["run_name"])
            self._tag(run, {"mlflow.runName": run.name})
        return {"run_info": _info_json(run)}

    def _search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = _conditions(str(body.get("filter", "")))
        runs = [run for run in reversed(self._runs.values()) if all(getattr(run, part).get(key) == value for part, key, value in wanted)]
        return {"runs": [_run_json(run) for run in runs[: int(body.get("max_results", 1000))]]}

    def _log_batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._log(body, *(_items(body, part) for part in ("metrics", "params", "tags")))

    def _log(
        self,
        body: Mapping[str, Any],
        metrics: Iterable[Mapping[str, Any]] = (),
        params: Iterable[Mapping[str, Any]] = (),
        tags: Iterable[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        run = self._named(body)
        points = [(_key(metric), _point(metric)) for metric in metrics]
        given = _pairs(params)
        for key, value in given.items():
            if run.params.get(key, value) != value:
                message = f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{run.params[key]}'"
                raise _Refused("INVALID_PARAMETER_VALUE", message)
        new = {key: value for key, value in given.items() if key not in run.params}
        run.params.update(new)
        if new:
            self._journal.write("param", values=_prefixed(run, new))
        self._tag(run, _pairs(tags))
        self._points(run, points)
        return {}

    def _tag(self, run: _Run, tags: Mapping[str, str]) -> None:
        new = {key: value for key, value in tags.items() if run.tags.get(key) != value}
        run.tags.update(new)
        if new:
            self._journal.write("tag", values=_prefixed(run, new))

    def _points(self, run: _Run, points: Iterable[tuple[str, _Point]]) -> None:
        """Journal points as one entry a step; a second value of one metric at one step begins another entry."""
        step, values = 0, dict[str, float]()
        for key, point in points:
            if values and (point.step != step or key in values):
                self._journal.write("metric", step=step, values=_prefixed(run, values))
                values = {}
            step = point.step
            values[key] = point.value
            run.metrics.setdefault(key, deque(maxlen=MAX_HISTORY)).append(point)
        if values:
            self._journal.write("metric", step=step, values=_prefixed(run, values))

    def _history(self, query: Mapping[str, Any]) -> dict[str, Any]:
        key = str(query.get("metric_key", ""))
        return {"metrics": [_metric_json(key, point) for point in self._named(query).metrics.get(key, ())]}

    def _list(self, query: Mapping[str, Any]) -> dict[str, Any]:
        run, below = self._named(query), str(query.get("path", "")).strip("/")
        files = [{**file, "path": f"{below}/{file['path']}" if below else file["path"]} for file in self._files(run, below)]
        return {"root_uri": _artifact_uri(run), "files": files}

    def _files(self, run: _Run, below: str) -> list[dict[str, Any]]:
        folder = self._below(run, below)
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        whole = [path for path in names if not (path.name.startswith(".") and path.name.endswith(".tmp"))]
        shown = [path for path in whole if run.prefix or below or path.name not in self._runs]  # a child's folder is not its parent's
        return [{"path": path.name, "is_dir": True} if path.is_dir() else _file_json(path) for path in shown]

    def _download(self, path: str) -> Answer:
        target = self._place(path)
        if not target.is_file():
            raise _Refused("RESOURCE_DOES_NOT_EXIST", "no such artifact", 404)
        return Answer(200, "application/octet-stream", target)

    def _place(self, path: str) -> Path:
        """The file that an artifact route names: `ARTIFACTS/RUN/…`."""
        run, _, below = path.removeprefix(ARTIFACTS).strip("/").partition("/")
        if not path.startswith(f"{ARTIFACTS}/") or not below:
            raise _Refused("INVALID_PARAMETER_VALUE", "name a file below a run")
        return self._below(self._run(run), below)

    def _below(self, run: _Run, below: str) -> Path:
        root = self._artifacts / run.id if run.prefix else self._artifacts
        if "\0" in below:
            raise _Refused("INVALID_PARAMETER_VALUE", "Invalid path")
        try:
            return confined(root, below)
        except BedplateError as error:
            raise _Refused("INVALID_PARAMETER_VALUE", "Invalid path") from error


@contextmanager
def serve_mlflow(routes: MlflowRoutes) -> Iterator[Mapping[str, str]]:
    """Serve on a free port of 127.0.0.1 while the context is open. Yields the environment by which an unmodified client finds it.

    Only who has the password from that environment is answered: other users of the machine, and web pages, are not.
    """
    password = secrets.token_urlsafe(24)
    expected = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
    handler = type("Handler", (_Handler,), {"routes": routes, "expected": expected})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="mlflow", daemon=True)
        thread.start()
        try:
            yield {
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_address[1]}",
                "MLFLOW_TRACKING_USERNAME": USER,
                "MLFLOW_TRACKING_PASSWORD": password,
                "MLFLOW_RUN_ID": routes.run_id,
                "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # there is no page behind this address
            }
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept alive. Requests and answers only: what they mean is `MlflowRoutes`."""

    routes: MlflowRoutes
    expected: str
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    wbufsize = -1  # header and body leave in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Every method goes one way."""
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line a request would bury the log of the attempt."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        blocks = self._blocks()
        try:
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self.expected.encode()):
                answer = refusal(401, "UNAUTHENTICATED", "use the credentials that the attempt's environment holds")
            elif self.command == "PUT":
                answer = self.routes.store(path, blocks)
            else:
                answer = self.routes.handle(self.command, path, dict(parse_qsl(parts.query)), _whole(blocks))
            for _ in blocks:  # a body that nobody read would be taken for the next request
                pass
        except _Refused as error:
            self.close_connection = True
            answer = refusal(error.status, error.code, error.message)
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        size = answer.body.stat().st_size if isinstance(answer.body, Path) else len(answer.body)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body)
        else:
            with answer.body.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, _BLOCK_BYTES)
        self.wfile.flush()

    def _blocks(self) -> Iterator[bytes]:
        """The request's body, by Content-Length or chunked (RFC 9112, section 7.1); a broken one ends the connection."""
        try:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                yield from self._exactly(_number(self.headers.get("Content-Length", "0").encode(), 10))
                return
            while size := _number(self.rfile.readline(1024).split(b";")[0], 16):
                yield from self._exactly(size)
                self.rfile.readline(1024)
            while self.rfile.readline(1024).strip():
                pass
        except _Refused:
            self.close_connection = True
            raise

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            block = self.rfile.read(min(size, _BLOCK_BYTES))
            if not block:
                raise _Refused("BAD_REQUEST", "the body ended early")
            size -= len(block)
            yield block


def refusal(status: int, code: str, message: str) -> Answer:
    """An error as MLflow's client expects it."""
    return _json(status, {"error_code": code, "message": message})


def _json(status: int, value: object) -> Answer:
    return Answer(status, _JSON, json.dumps(value).encode())


def _write(target: Path, blocks: Iterable[bytes]) -> None:
    """Stream to a file beside `target`, then rename: an upload can be larger than the shim's memory."""
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    with beside.open("xb") as file:
        try:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync(target.parent)


def _whole(blocks: Iterable[bytes]) -> bytes:
    body = bytearray()
    for block in blocks:
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise _Refused("BAD_REQUEST", f"a request is larger than {MAX_BODY_BYTES} bytes", 413)
    return bytes(body)


def _number(text: bytes, base: int) -> int:
    if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", text.strip()) or (base == 10 and not text.strip().isdigit()):
        raise _Refused("BAD_REQUEST", "the length of the body is no number")
    return int(text, base)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise _Refused("BAD_REQUEST", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise _Refused("BAD_REQUEST", "the body is not a JSON object")
    return value


def _items(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _Refused("INVALID_PARAMETER_VALUE", f"'{name}' is not a list of objects")
    return items


def _key(value: Mapping[str, Any]) -> str:
    if not isinstance(value.get("key"), str) or not value["key"]:
        raise _Refused("INVALID_PARAMETER_VALUE", "Missing value for required parameter 'key'")
    return str(value["key"])


def _pairs(values: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {_key(value): str(value.get("value", "")) for value in values}


def _point(metric: Mapping[str, Any]) -> _Point:
    """A point of a metric; NaN and infinities come as the strings of protobuf's JSON form."""
    try:
        return _Point(int(metric.get("step") or 0), int(metric.get("timestamp") or _now_ms()), float(metric["value"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _Refused("INVALID_PARAMETER_VALUE", f"metric '{_key(metric)}' has no number for a value, step or timestamp") from error


def _conditions(text: str) -> list[tuple[str, str, str]]:
    """A filter of `tags.KEY = 'value'` and `params.KEY = 'value'` joined by `and`; anything else is refused, not ignored."""
    conditions = []
    for clause in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if text.strip() else []:
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            raise _Refused(
                "INVALID_PARAMETER_VALUE", f"this tracking endpoint filters by tags and params only, with '=' and 'and': {clause}"
            )
        value = match.group(3) if match.group(3) is not None else match.group(4)
        conditions.append((match.group(1).rstrip("s") + "s", match.group(2), value))
    return conditions


def _prefixed(run: _Run, values: Mapping[str, str] | Mapping[str, float]) -> dict[str, str | float]:
    return {run.prefix + key: value for key, value in values.items()}


def _artifact_uri(run: _Run) -> str:
    return f"mlflow-artifacts:/{run.id}"


def _info_json(run: _Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": EXPERIMENT_ID,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.start_ms,
        **({"end_time": run.end_ms} if run.end_ms is not None else {}),
        "artifact_uri": _artifact_uri(run),
        "lifecycle_stage": "active",
    }


def _run_json(run: _Run) -> dict[str, Any]:
    data = {
        "metrics": [_metric_json(key, max(points, key=lambda point: point[:2])) for key, points in run.metrics.items()],
        "params": [{"key": key, "value": value} for key, value in run.params.items()],
        "tags": [{"key": key, "value": value} for key, value in run.tags.items()],
    }
    return {"info": _info_json(run), "data": data}


def _metric_json(key: str, point: _Point) -> dict[str, Any]:
    value = point.value if math.isfinite(point.value) else "NaN" if math.isnan(point.value) else f"{'-' * (point.value < 0)}Infinity"
    return {"key": key, "value": value, "timestamp": point.timestamp_ms, "step": point.step}


def _file_json(path: Path) -> dict[str, Any]:
    return {"path": path.name, "is_dir": False, "file_size": path.stat().st_size}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
