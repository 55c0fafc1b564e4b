"""Routes of logged models, as MLflow 3 has them: what `log_model` makes before anything is registered.

Does not know: the registry, or what the files of a model hold.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from bedplate.models.tracking import artifacts, drafts, experiments, validation
from bedplate.models.tracking import search as search_runs
from bedplate.models.tracking.language import LOGGED_MODELS, matches, ordered, parse_filter, parse_orders
from bedplate.models.tracking.paging import page
from bedplate.models.tracking.refusal import invalid, missing
from bedplate.models.tracking.store import Tracking, now_ms

Body = Mapping[str, Any]
STATUSES: Mapping[str, str] = {"1": "LOGGED_MODEL_PENDING", "2": "LOGGED_MODEL_READY", "3": "LOGGED_MODEL_UPLOAD_FAILED"}


def found(tracking: Tracking, body: Body) -> dict[str, Any]:
    """The logged model that a request names, unless it was deleted. Raises Refused."""
    identity = validation.text(body, "model_id")
    model = tracking.fresh().document("logged_model", identity)
    if model is None or (model.get("lifecycle") == "deleted" and body.get("allow_deleted") != "true"):
        raise missing(f"Logged model with ID '{identity}' not found.")
    return model


def shown(tracking: Tracking, model: Mapping[str, Any]) -> dict[str, Any]:
    """A logged model in MLflow's form; its metrics are those of the run that logged it."""
    texts = {name: model[name] for name in ("model_type", "source_run_id") if model.get(name)}
    return {
        "info": {
            "experiment_id": model["experiment_id"],
            "model_id": model["model_id"],
            "name": model["name"],
            "artifact_uri": model["artifact_uri"],
            "creation_timestamp_ms": model["created_ms"],
            "last_updated_timestamp_ms": model["at_ms"] if "at_ms" in model else model["created_ms"],
            "status": model["status"],
            **texts,
            "tags": [{"key": key, "value": value} for key, value in sorted(model["tags"].items())],
        },
        "data": {
            "params": [{"key": key, "value": value} for key, value in sorted(model["params"].items())],
            "metrics": _metrics(tracking, model),
        },
    }


def _metrics(tracking: Tracking, model: Mapping[str, Any]) -> list[dict[str, Any]]:
    number = tracking.index.number(model.get("source_run_id") or "")
    metrics = search_runs.runs(tracking.index, [number])[0]["data"].get("metrics", []) if number is not None else []
    return [{**metric, "model_id": model["model_id"], "run_id": model["source_run_id"]} for metric in metrics]


def create(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST logged-models."""
    experiment = experiments.active(tracking, validation.text(body, "experiment_id"))
    identity = f"m-{secrets.token_hex(16)}"
    name = validation.text(body, "name", required=False) or f"model-{secrets.token_hex(4)}"
    if any(each in name for each in "/:.%\"'"):
        raise invalid(
            f"Invalid model name ({name}) provided. Model name must be a non-empty string and cannot contain '/', ':', '.', '%', quotes"
        )
    payload = {
        "model_id": identity,
        "experiment_id": experiment["experiment_id"],
        "name": name,
        "artifact_uri": f"{experiment['artifact_location'].rstrip('/')}/models/{identity}/artifacts",
        "created_ms": now_ms(),
        "status": STATUSES["1"],
        **{each: validation.text(body, each, required=False) for each in ("model_type", "source_run_id")},
        "tags": validation.pairs(validation.items(body, "tags"), validation.MAX_TAG_VALUE, "tags"),
        "params": validation.pairs(validation.items(body, "params"), validation.MAX_PARAM_VALUE, "params"),
    }
    tracking.stage(drafts.logged_model_created(identity, payload))
    return {"model": shown(tracking, payload)}


def get(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET logged-models/ID."""
    return {"model": shown(tracking, found(tracking, body))}


def finalize(tracking: Tracking, body: Body) -> dict[str, Any]:
    """PATCH logged-models/ID: it is ready, or could not be uploaded."""
    model = found(tracking, body)
    given = validation.text(body, "status")
    status = STATUSES.get(given, given)
    if status not in STATUSES.values():
        raise invalid(f"Invalid value \"{given}\" for parameter 'status' supplied: use one of {', '.join(STATUSES.values())}")
    tracking.stage(drafts.logged_model_changed(model["model_id"], at_ms=now_ms(), status=status))
    return {"model": shown(tracking, found(tracking, body))}


def delete(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE logged-models/ID. The files stay; doing it again changes nothing."""
    model = tracking.fresh().document("logged_model", validation.text(body, "model_id"))
    if model is not None and model.get("lifecycle") == "deleted":
        return {}
    tracking.stage(drafts.logged_model_changed(found(tracking, body)["model_id"], at_ms=now_ms(), lifecycle="deleted"))
    return {}


def set_tags(tracking: Tracking, body: Body) -> dict[str, Any]:
    """PATCH logged-models/ID/tags."""
    tags = validation.pairs(validation.items(body, "tags"), validation.MAX_TAG_VALUE, "tags")
    tracking.stage(drafts.logged_model_changed(found(tracking, body)["model_id"], at_ms=now_ms(), tags=tags))
    return {}


def delete_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE logged-models/ID/tags/KEY."""
    model, key = found(tracking, body), validation.text(body, "tag_key")
    if key not in model["tags"]:
        raise missing(f"No tag with key {key!r} found for model with ID {model['model_id']!r}.")
    tracking.stage(drafts.logged_model_changed(model["model_id"], at_ms=now_ms(), tags={key: None}))
    return {}


def log_params(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST logged-models/ID/params."""
    params = validation.pairs(validation.items(body, "params"), validation.MAX_PARAM_VALUE, "params")
    tracking.stage(drafts.logged_model_changed(found(tracking, body)["model_id"], at_ms=now_ms(), params=params))
    return {}


def list_artifacts(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET logged-models/ID/artifacts/directories."""
    uri = str(found(tracking, body)["artifact_uri"])
    path = validation.text(body, "artifact_directory_path", required=False)
    return {"root_uri": uri, "files": artifacts.below(tracking, uri, path)}


def search(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST logged-models/search."""
    wanted = set(validation.listed(body, "experiment_ids"))
    if not wanted:
        raise invalid("Missing value for required parameter 'experiment_ids'.")
    size = validation.bounded(body, "max_results", 100, 1000)
    comparisons = parse_filter(validation.text(body, "filter", required=False), LOGGED_MODELS)
    texts = [
        f"{validation.text(order, 'field_name')} {'ASC' if order.get('ascending', True) else 'DESC'}"
        for order in validation.items(body, "order_by")
    ]
    orders = parse_orders(texts or ["creation_timestamp DESC"], LOGGED_MODELS)
    index = tracking.fresh()
    models = [each for each in index.documents("logged_model") if each["experiment_id"] in wanted]

    def values(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return {**_values(model), "metrics": {each["key"]: each["value"] for each in _metrics(tracking, model)}}

    kept = [each for each in models if each.get("lifecycle") != "deleted" and matches(comparisons, values(each))]
    part, token = page(ordered(kept, orders, values), size, body.get("page_token"))
    return {"models": [shown(tracking, each) for each in part], **({"next_page_token": token} if token else {})}


def _values(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    times = dict.fromkeys(("creation_timestamp", "creation_time"), model["created_ms"])
    updated = {"last_updated_timestamp": model["at_ms"] if "at_ms" in model else model["created_ms"]}
    return {"attributes": {**model, **times, **updated}, "params": model["params"], "tags": model["tags"]}
