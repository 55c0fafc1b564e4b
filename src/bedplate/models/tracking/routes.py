"""The table of routes: what MLflow's REST API has, as far as it is served here, and the way from a request to its answer.

A route with `{name}` takes that part of the path into the request's values; the rest is the JSON body, or the query.
What is not in the table is answered 404 ENDPOINT_NOT_FOUND, as MLflow answers what it does not know.
Does not know: sockets, or when an answer may leave (after `Tracking.commit`).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from bedplate.core.errors import BedplateError
from bedplate.models.tracking import artifacts, experiments, logged_models, registry, runs, traces
from bedplate.models.tracking.refusal import Answer, Refused, json_answer, object_of
from bedplate.models.tracking.store import Tracking
from bedplate.models.tracking.validation import not_served

Handler = Callable[[Tracking, Mapping[str, Any]], dict[str, Any]]
FILES = "/api/2.0/mlflow-artifacts/artifacts"
PARTS = "/api/2.0/mlflow-artifacts/mpu/part/"
_LOG = logging.getLogger("bedplate.models.tracking")
_REPEATED = frozenset({"run_id", "run_ids", "order_by", "stages", "experiment_ids"})


def _info(_tracking: Tracking, _body: Mapping[str, Any]) -> dict[str, Any]:
    return {"store_type": "SqlStore", "workspaces_enabled": False, "multipart_uploads_enabled": True, "multipart_downloads_enabled": False}


_TWO: Mapping[str, Handler] = {
    "POST experiments/create": experiments.create,
    "GET experiments/get": experiments.get,
    "GET experiments/get-by-name": experiments.get_by_name,
    "POST experiments/search": experiments.search,
    "GET experiments/search": experiments.search,
    "GET experiments/list": experiments.search,
    "POST experiments/update": experiments.update,
    "POST experiments/delete": experiments.delete,
    "POST experiments/restore": experiments.restore,
    "POST experiments/set-experiment-tag": experiments.set_tag,
    "POST experiments/delete-experiment-tag": experiments.delete_tag,
    "POST experiments/search-datasets": runs.datasets,
    "POST runs/create": runs.create,
    "GET runs/get": runs.get,
    "POST runs/update": runs.update,
    "POST runs/delete": runs.delete,
    "POST runs/restore": runs.restore,
    "POST runs/search": runs.find,
    "POST runs/log-metric": runs.log_metric,
    "POST runs/log-batch": runs.log_batch,
    "POST runs/log-parameter": runs.log_param,
    "POST runs/log-model": runs.log_model,
    "POST runs/log-inputs": runs.log_inputs,
    "POST runs/outputs": runs.log_outputs,
    "POST runs/set-tag": runs.set_tag,
    "POST runs/delete-tag": runs.delete_tag,
    "GET metrics/get-history": runs.history,
    "GET metrics/get-history-bulk": runs.history_bulk,
    "GET metrics/get-history-bulk-interval": runs.history_interval,
    "GET artifacts/list": artifacts.of_run,
    "POST registered-models/create": registry.create_model,
    "GET registered-models/get": registry.get_model,
    "PATCH registered-models/update": registry.update_model,
    "POST registered-models/rename": registry.rename_model,
    "DELETE registered-models/delete": registry.delete_model,
    "GET registered-models/search": registry.search_models,
    "GET registered-models/get-latest-versions": registry.latest_versions,
    "POST registered-models/get-latest-versions": registry.latest_versions,
    "POST registered-models/set-tag": registry.set_model_tag,
    "DELETE registered-models/delete-tag": registry.delete_model_tag,
    "POST registered-models/alias": registry.set_alias,
    "DELETE registered-models/alias": registry.delete_alias,
    "GET registered-models/alias": registry.by_alias,
    "POST model-versions/create": registry.create_version,
    "GET model-versions/get": registry.get_version,
    "PATCH model-versions/update": registry.update_version,
    "POST model-versions/transition-stage": registry.transition,
    "DELETE model-versions/delete": registry.delete_version,
    "GET model-versions/search": registry.search_versions,
    "GET model-versions/get-download-uri": registry.download_uri,
    "POST model-versions/set-tag": registry.set_version_tag,
    "DELETE model-versions/delete-tag": registry.delete_version_tag,
    "POST logged-models": logged_models.create,
    "POST logged-models/search": logged_models.search,
    "GET logged-models/{model_id}": logged_models.get,
    "PATCH logged-models/{model_id}": logged_models.finalize,
    "DELETE logged-models/{model_id}": logged_models.delete,
    "PATCH logged-models/{model_id}/tags": logged_models.set_tags,
    "DELETE logged-models/{model_id}/tags/{tag_key}": logged_models.delete_tag,
    "POST logged-models/{model_id}/params": logged_models.log_params,
    "GET logged-models/{model_id}/artifacts/directories": logged_models.list_artifacts,
    "PATCH traces/{request_id}/tags": traces.set_tag,
    "DELETE traces/{request_id}/tags": traces.delete_tag,
    "POST traces/delete-traces": traces.delete,
}
_THREE: Mapping[str, Handler] = {
    "GET server-info": _info,
    "POST traces": traces.start,
    "POST traces/search": traces.search,
    "POST traces/delete-traces": traces.delete,
    "GET traces/{trace_id}": traces.get,
    "PATCH traces/{trace_id}/tags": traces.set_tag,
    "DELETE traces/{trace_id}/tags": traces.delete_tag,
}
_UPLOADS: Mapping[str, Handler] = {
    "create": artifacts.multipart_create,
    "complete": artifacts.multipart_complete,
    "abort": artifacts.multipart_abort,
}
ROUTES: Mapping[str, Handler] = {
    **{route.replace(" ", " /api/2.0/mlflow/", 1): handler for route, handler in _TWO.items()},
    **{route.replace(" ", " /api/3.0/mlflow/", 1): handler for route, handler in _THREE.items()},
}
_PATTERNS = [
    (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", re.escape(route).replace(r"\{", "{").replace(r"\}", "}"))), handler)
    for route, handler in ROUTES.items()
    if "{" in route
]


def answer(tracking: Tracking, method: str, path: str, query: str, body: bytes, address: str) -> Answer:
    """Answer a request: `path` is decoded and without the query, `address` is where the client reached this server.

    Errors come in MLflow's JSON form; a failure inside is logged under an id that the client is told.
    """
    try:
        handler = ROUTES.get(f"{method} {path}")
        if handler is not None:
            queried = not body or (method == "GET" and query)
            return json_answer(handler(tracking, _queried(query) if queried else object_of(body)))
        return _other(tracking, method, path, query, body, address)
    except Refused as refused:
        return refused.answer()
    except (BedplateError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return failed(error)


def _other(tracking: Tracking, method: str, path: str, query: str, body: bytes, address: str) -> Answer:
    if path.startswith(f"{FILES}/") and method == "GET":
        tracking.commit()
        return artifacts.download(tracking, path.removeprefix(f"{FILES}/"))
    if path.startswith(f"{FILES}/") and method == "DELETE":
        return artifacts.delete(tracking, path.removeprefix(f"{FILES}/"))
    if path == FILES and method == "GET":
        return json_answer(artifacts.listed(tracking, _queried(query)))
    upload = re.fullmatch(r"/api/2\.0/mlflow-artifacts/mpu/(create|complete|abort)(/.*)?", path)
    if upload and method == "POST":
        return json_answer(_UPLOADS[upload[1]](tracking, {**object_of(body), "_path": upload[2] or "", "_address": address}))
    if path in ("/health", "/") and method == "GET":
        return Answer(200, "text/plain", b"OK")
    for pattern, handler in _PATTERNS:
        match = pattern.fullmatch(f"{method} {path}")
        if match:
            given = object_of(body) if body else _queried(query)
            return json_answer(handler(tracking, {**given, **match.groupdict()}))
    raise not_served(method, path)


def _queried(query: str) -> dict[str, Any]:
    found = parse_qs(query, keep_blank_values=True)
    return {name: values if name in _REPEATED and len(values) > 1 else values[-1] for name, values in found.items()}


def failed(error: BaseException) -> Answer:
    """A failure inside: the client learns an id, the log the rest."""
    identity = os.urandom(6).hex()
    _LOG.error("no answer (%s): %r", identity, error, exc_info=error)
    return Refused("INTERNAL_ERROR", f"the server could not answer; look for {identity} in its log").answer()
