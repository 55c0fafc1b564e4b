"""Routes of traces, as few as clients need: a trace is recorded when it has ended, found, tagged, deleted. Its spans are an artifact that
the client writes itself, at the place that the tag `mlflow.artifactLocation` names.

Does not know: spans, assessments, or anything else that MLflow has for language models.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bedplate.models.tracking import drafts, experiments, validation
from bedplate.models.tracking.language import TRACES, matches, ordered, parse_filter, parse_orders
from bedplate.models.tracking.paging import page
from bedplate.models.tracking.refusal import invalid, missing
from bedplate.models.tracking.store import Tracking, now_ms

Body = Mapping[str, Any]
_DURATION = re.compile(r"(\d+)(?:\.(\d{1,9}))?s")
_LOCATION = "mlflow.artifactLocation"
_STATES = {"OK", "ERROR", "IN_PROGRESS", "STATE_UNSPECIFIED"}


def _found(tracking: Tracking, body: Body) -> dict[str, Any]:
    identity = validation.text({"trace_id": body.get("trace_id") or body.get("request_id")}, "trace_id")
    trace = tracking.fresh().document("trace", identity)
    if trace is None or trace.get("lifecycle") == "deleted":
        raise missing(f"Trace with ID '{identity}' not found.")
    return trace


def start(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST 3.0 traces: a trace with its state, times and tags."""
    given = body.get("trace")
    told = given.get("trace_info") if isinstance(given, dict) else None
    if not isinstance(told, dict):
        raise invalid("Missing value for required parameter 'trace'.")
    place = _mapping(_mapping(told, "trace_location"), "mlflow_experiment")
    experiment = experiments.active(tracking, str(place.get("experiment_id") or "0"))
    identity = validation.text(told, "trace_id", required=False) or f"tr-{secrets.token_hex(16)}"
    if not re.fullmatch(r"[\w-]{1,100}", identity):
        raise invalid(f"Invalid trace ID '{identity}'")
    tags, metadata = ({str(key): str(value) for key, value in _mapping(told, part).items()} for part in ("tags", "trace_metadata"))
    state = str(told.get("state") or "STATE_UNSPECIFIED")
    if state not in _STATES:
        raise invalid(f"Invalid value for parameter 'state' supplied: use one of {', '.join(sorted(_STATES))}")
    location = f"{experiment['artifact_location'].rstrip('/')}/traces/{identity}/artifacts"
    payload = {
        "trace_id": identity,
        "experiment_id": experiment["experiment_id"],
        "request_ms": _instant_ms(told.get("request_time")),
        "execution_ms": _duration_ms(told.get("execution_duration")),
        "state": state,
        "texts": {name: str(told[name]) for name in ("client_request_id", "request_preview", "response_preview") if told.get(name)},
        "metadata": metadata,
        "tags": {**tags, _LOCATION: location},
    }
    tracking.stage(drafts.trace_recorded(identity, payload))
    return {"trace": {"trace_info": _shown(payload)}}


def _mapping(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = told.get(name)
    if found is not None and not isinstance(found, dict):
        raise invalid(f"Invalid value for parameter '{name}' supplied: it is no object")
    return found or {}


def _instant_ms(text: object) -> int:
    if not text:
        return now_ms()
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1000)
    except ValueError as error:
        raise invalid(f"Invalid value {text!r} for parameter 'request_time' supplied: it is no time") from error


def _duration_ms(text: object) -> int:
    match = _DURATION.fullmatch(str(text or "0s"))
    if match is None:
        raise invalid(f"Invalid value {text!r} for parameter 'execution_duration' supplied: it is no duration")
    return int(match[1]) * 1000 + int((match[2] or "0").ljust(3, "0")[:3])


def _shown(trace: Mapping[str, Any]) -> dict[str, Any]:
    at = datetime.fromtimestamp(trace["request_ms"] / 1000, UTC)
    seconds, milliseconds = divmod(trace["execution_ms"], 1000)
    return {
        "trace_id": trace["trace_id"],
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": trace["experiment_id"]}},
        "request_time": f"{at:%Y-%m-%dT%H:%M:%S}.{trace['request_ms'] % 1000:03d}Z",
        "execution_duration": f"{seconds}.{milliseconds:03d}s",
        "state": trace["state"],
        "trace_metadata": trace["metadata"],
        "tags": trace["tags"],
        **trace["texts"],
    }


def get(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET 3.0 traces/ID."""
    return {"trace": {"trace_info": _shown(_found(tracking, body))}}


def search(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST 3.0 traces/search."""
    places = validation.items(body, "locations")
    wanted = {str(_mapping(place, "mlflow_experiment").get("experiment_id")) for place in places}
    size = validation.bounded(body, "max_results", 100, 500)
    comparisons = parse_filter(validation.text(body, "filter", required=False), TRACES)
    orders = parse_orders(validation.texts(body, "order_by") or ["timestamp_ms DESC"], TRACES)
    every = [each for each in tracking.fresh().documents("trace") if each["experiment_id"] in wanted and each.get("lifecycle") != "deleted"]
    kept = ordered([each for each in every if matches(comparisons, _values(each))], orders, _values)
    part, token = page(kept, size, body.get("page_token"))
    return {"traces": [_shown(each) for each in part], **({"next_page_token": token} if token else {})}


def _values(trace: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    attributes = {
        "timestamp_ms": trace["request_ms"],
        "execution_time_ms": trace["execution_ms"],
        **dict.fromkeys(("status", "state"), trace["state"]),
        **dict.fromkeys(("request_id", "trace_id"), trace["trace_id"]),
        "name": trace["tags"].get("mlflow.traceName"),
        "run_id": trace["metadata"].get("mlflow.sourceRun"),
        "client_request_id": trace["texts"].get("client_request_id"),
    }
    return {"attributes": attributes, "tags": trace["tags"]}


def set_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """PATCH traces/ID/tags, of 2.0 and 3.0."""
    trace = _found(tracking, body)
    key, value = validation.pair(body, validation.MAX_TAG_VALUE)
    tracking.stage(drafts.trace_changed(trace["trace_id"], tags={key: value}))
    return {}


def delete_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE traces/ID/tags, of 2.0 and 3.0."""
    trace, key = _found(tracking, body), validation.text(body, "key")
    if key not in trace["tags"]:
        raise missing(f"No trace tag with key '{key}' for trace with ID '{trace['trace_id']}'")
    tracking.stage(drafts.trace_changed(trace["trace_id"], tags={key: None}))
    return {}


def delete(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST traces/delete-traces, of 2.0 and 3.0: by id, or all before a time."""
    experiment, limit = validation.text(body, "experiment_id"), validation.number(body, "max_traces", 1 << 30)
    identities, before_ms = validation.texts(body, "request_ids"), body.get("max_timestamp_millis")
    identities += validation.texts(body, "trace_ids")
    if bool(identities) == (before_ms is not None):
        raise invalid("Either `max_timestamp_millis` or `trace_ids` must be specified, but not both.")
    traces = [each for each in tracking.fresh().documents("trace", experiment) if each.get("lifecycle") != "deleted"]
    last_ms = validation.number(body, "max_timestamp_millis", 0)
    gone = [each for each in traces if each["trace_id"] in identities or (before_ms is not None and each["request_ms"] <= last_ms)]
    gone = sorted(gone, key=lambda each: int(each["request_ms"]))[:limit]
    tracking.stage(*(drafts.trace_changed(each["trace_id"], lifecycle="deleted") for each in gone))
    return {"traces_deleted": len(gone)}
