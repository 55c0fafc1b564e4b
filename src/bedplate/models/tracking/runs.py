"""Routes of runs: their life, what is logged to them, and the search for them.

A run of bedplate's own takes params, tags and metrics from clients like any other, but its status is the loop's: who says that it is
finished is answered with what it is.
Does not know: how points are kept, or what SQL a search becomes.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from bedplate.models.tracking import drafts, experiments, search, validation
from bedplate.models.tracking.index import DEFAULT_EXPERIMENT
from bedplate.models.tracking.language import parse_filter, parse_orders
from bedplate.models.tracking.paging import offset_of, token_at
from bedplate.models.tracking.refusal import invalid, missing, number_json
from bedplate.models.tracking.store import Tracking, now_ms

Body = Mapping[str, Any]
STATUSES: Mapping[str, str] = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
MAX_HISTORY = 25_000
MAX_RUNS_OF_HISTORY = 100
MAX_INTERVAL = 2500

_ADJECTIVES = ("bold", "calm", "clever", "eager", "fair", "gentle", "keen", "lively", "merry", "noble", "quiet", "rapid", "sturdy", "wise")
_NOUNS = ("ant", "bear", "crane", "crow", "deer", "finch", "fox", "hare", "lark", "lynx", "mole", "otter", "owl", "seal", "trout", "wren")


def run_id_of(body: Body) -> str:
    """The run that a request is about; old clients call it run_uuid. Raises Refused."""
    run = body.get("run_id")
    if type(run) is str and run:
        return run
    return validation.text({"run_id": body.get("run_id") or body.get("run_uuid")}, "run_id")


def number_of(tracking: Tracking, run: str) -> int:
    """The row of a run in an index that has all that was said. Raises Refused."""
    number = tracking.fresh().number(run)
    if number is None:
        raise missing(f"Run with id={run} not found")
    return number


def create(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/create."""
    experiment = experiments.active(tracking, validation.text(body, "experiment_id", required=False) or DEFAULT_EXPERIMENT)
    tags = validation.pairs(validation.items(body, "tags"), validation.MAX_TAG_VALUE, "tags")
    given, tagged = validation.text(body, "run_name", required=False), tags.get(drafts.NAME_TAG, "")
    if given and tagged and given != tagged:
        raise invalid(
            f"Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{given}', mlflow.runName='{tagged}')."
        )
    name = given or tagged or f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{secrets.randbelow(1000)}"
    run = secrets.token_hex(16)
    user = validation.text(body, "user_id", required=False)
    start_ms = validation.moment(body, "start_time") or now_ms()
    root = experiment["artifact_location"].rstrip("/")
    draft = drafts.run_logged(
        run,
        experiment["experiment_id"],
        experiment["name"],
        name=name,
        user=user,
        start_ms=start_ms,
        tags=tags,
        uri=f"{root}/{run}/artifacts",
    )
    tracking.stage(draft)
    row = (0, run, experiment["experiment_id"], name, user, "RUNNING", start_ms, None, "active", draft.payload["artifact_uri"])
    told = [{"key": key, "value": value} for key, value in draft.payload["tags"].items()]
    return {"run": {"info": search.info(row), "data": {"tags": told}, "inputs": {}, "outputs": {}}}


def get(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET runs/get."""
    number = number_of(tracking, run_id_of(body))
    return {"run": search.runs(tracking.index, [number])[0]}


def update(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/update: a status, an end, a name."""
    run = run_id_of(body)
    number = number_of(tracking, run)
    tracking.require_active(run)
    changes: dict[str, Any] = {}
    status = body.get("status")
    own = search.kind_of(tracking.index, number) != "logged"
    if status is not None and not own:
        name = STATUSES.get(str(status), str(status))
        if name not in STATUSES.values():
            raise invalid(f"Invalid value \"{status}\" for parameter 'status' supplied: use one of {', '.join(STATUSES.values())}")
        changes["status"] = name
        if name in ("FINISHED", "FAILED", "KILLED"):
            changes["metrics"] = _summary(tracking, number)
    if body.get("end_time") is not None and not own:
        changes["end_ms"] = validation.moment(body, "end_time")
    if body.get("run_name"):
        changes |= {"name": validation.text(body, "run_name"), "tags": {drafts.NAME_TAG: validation.text(body, "run_name")}}
    if changes:
        tracking.stage(drafts.run_changed(run, **changes))
        tracking.fresh()
    return {"run_info": search.info_of(tracking.index, number)}


def _summary(tracking: Tracking, number: int) -> dict[str, Any]:
    """The latest value of each metric, for the ledger: who reads only events sees how a run ended."""
    rows = tracking.index.database.execute("SELECT key, value, at_ms, step FROM metrics WHERE run = ?", (number,))
    return drafts.latest({key: (float("nan") if value is None else value, at_ms, step) for key, value, at_ms, step in rows})


def delete(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/delete. It can be restored; what was logged stays in the ledger."""
    run = run_id_of(body)
    number_of(tracking, run)
    tracking.stage(drafts.run_changed(run, lifecycle="deleted", at_ms=now_ms()))
    return {}


def restore(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/restore."""
    run = run_id_of(body)
    number_of(tracking, run)
    tracking.stage(drafts.run_changed(run, lifecycle="active", at_ms=now_ms()))
    return {}


def log_metric(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/log-metric."""
    run = run_id_of(body)
    point = validation.point(body, tracking.checked)
    tracking.require_active(run)
    tracking.log(run, (point,))
    return {}


def log_batch(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/log-batch: all of it, or none of it."""
    run = run_id_of(body)
    listed = {part: validation.items(body, part) for part in ("metrics", "params", "tags")}
    validation.check_batch(*(len(part) for part in listed.values()))
    points = [validation.point(metric, tracking.checked, f"metrics[{place}].") for place, metric in enumerate(listed["metrics"])]
    params, tags = validation.params(listed["params"]), validation.pairs(listed["tags"], validation.MAX_TAG_VALUE, "tags")
    tracking.require_active(run)
    new = tracking.check_params(run, params) if params else {}
    if points:
        tracking.log(run, points)
    _change(tracking, run, new, tags)
    return {}


def _change(tracking: Tracking, run: str, params: Mapping[str, str], tags: Mapping[str, str | None]) -> None:
    changes: dict[str, Any] = {name: dict(values) for name, values in (("params", params), ("tags", tags)) if values}
    if tags.get(drafts.NAME_TAG):
        changes["name"] = tags[drafts.NAME_TAG]
    if changes:
        tracking.stage(drafts.run_changed(run, **changes))


def log_param(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/log-parameter."""
    run = run_id_of(body)
    given = dict([validation.pair(body, validation.MAX_PARAM_VALUE)])
    tracking.require_active(run)
    _change(tracking, run, tracking.check_params(run, given), {})
    return {}


def set_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/set-tag."""
    run = run_id_of(body)
    key, value = validation.pair(body, validation.MAX_TAG_VALUE)
    tracking.require_active(run)
    _change(tracking, run, {}, {key: value})
    return {}


def delete_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/delete-tag."""
    run, key = run_id_of(body), validation.check_name(body.get("key"), "key")
    tracking.require_active(run)
    number = number_of(tracking, run)
    if tracking.index.database.execute("SELECT 1 FROM tags WHERE run = ? AND key = ?", (number, key)).fetchone() is None:
        raise missing(f"No tag with name: {key} in run with id {run}")
    tracking.stage(drafts.run_changed(run, tags={key: None}))
    return {}


def log_inputs(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/log-inputs: datasets, and models that the run reads."""
    run = run_id_of(body)
    tracking.require_active(run)
    datasets = []
    for place, used in enumerate(validation.items(body, "datasets")):
        dataset = used.get("dataset")
        if not isinstance(dataset, dict):
            raise invalid(f"Missing value for required parameter 'datasets[{place}].dataset'.")
        named = {name: validation.text(dataset, name) for name in ("name", "digest", "source_type", "source")}
        rest = {name: validation.text(dataset, name, required=False) for name in ("schema", "profile") if dataset.get(name)}
        if len(named["name"]) > 500 or len(named["digest"]) > 36:
            raise invalid(f"'datasets[{place}]': a name has at most 500 characters, a digest 36")
        datasets.append({"dataset": {**named, **rest}, "tags": validation.pairs(validation.items(used, "tags"), 500, "tags")})
    models = [validation.text(each, "model_id") for each in validation.items(body, "models")]
    changes: dict[str, Any] = {name: values for name, values in (("datasets", datasets), ("models_in", models)) if values}
    if changes:
        tracking.stage(drafts.run_changed(run, **changes))
    return {}


def log_outputs(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/outputs: models that the run made."""
    run = run_id_of(body)
    tracking.require_active(run)
    models = [[validation.text(each, "model_id"), validation.number(each, "step", 0)] for each in validation.items(body, "models")]
    if models:
        tracking.stage(drafts.run_changed(run, models_out=models))
    return {}


def log_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/log-model: the description of a model that an old client logged, which MLflow keeps as a tag."""
    run = run_id_of(body)
    described = validation.text(body, "model_json")
    tracking.require_active(run)
    number = number_of(tracking, run)
    key = "mlflow.log-model.history"
    row = tracking.index.database.execute("SELECT value FROM tags WHERE run = ? AND key = ?", (number, key)).fetchone()
    history = f"{row[0][:-1]},{described}]" if row else f"[{described}]"
    tracking.stage(drafts.run_changed(run, tags={key: history}))
    return {}


def find(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST runs/search."""
    size = validation.bounded(body, "max_results", 1000, 50_000)
    comparisons = parse_filter(validation.text(body, "filter", required=False))
    orders = parse_orders(validation.texts(body, "order_by"))
    states = experiments.lifecycles(body, "run_view_type")
    wanted, offset = validation.listed(body, "experiment_ids"), offset_of(body.get("page_token"))
    index = tracking.fresh()
    numbers = search.find(index, wanted, states, comparisons, orders, size + 1, offset) if wanted else []
    more = len(numbers) > size
    return {"runs": search.runs(index, numbers[:size]), **({"next_page_token": token_at(offset + size)} if more else {})}


# -- histories --------------------------------------------------------------------------------------------------------------------


def history(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET metrics/get-history."""
    run, key = run_id_of(body), validation.text(body, "metric_key")
    number_of(tracking, run)
    points = tracking.points.history(run, key)
    if body.get("max_results") is None:
        return {"metrics": [_shown(key, point) for point in points]}
    size = validation.number(body, "max_results", 0)
    if size <= 0:
        raise invalid(f"Invalid value {size} for parameter 'max_results' supplied. It must be a positive integer.")
    offset = offset_of(body.get("page_token"))
    more = {"next_page_token": token_at(offset + size)} if offset + size < len(points) else {}
    return {"metrics": [_shown(key, point) for point in points[offset : offset + size]], **more}


def history_bulk(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET metrics/get-history-bulk: one metric of several runs."""
    wanted, key = validation.texts(body, "run_id"), validation.text(body, "metric_key")
    if not wanted or len(wanted) > MAX_RUNS_OF_HISTORY:
        raise invalid(f"GetMetricHistoryBulk request must specify 1 to {MAX_RUNS_OF_HISTORY} run_ids. Received {len(wanted)} run_ids.")
    size = min(validation.bounded(body, "max_results", MAX_HISTORY, (1 << 31) - 1), MAX_HISTORY)
    tracking.commit()
    points = [{**_shown(key, point), "run_id": run} for run in sorted(wanted) for point in tracking.points.history(run, key)]
    return {"metrics": points[:size]}


def history_interval(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET metrics/get-history-bulk-interval: at most `max_results` points a run, evenly over the steps, first and last among them."""
    wanted, key = validation.texts(body, "run_ids"), validation.text(body, "metric_key")
    if not wanted or len(wanted) > MAX_RUNS_OF_HISTORY:
        raise invalid(f"GetMetricHistoryBulkInterval request must specify 1 to {MAX_RUNS_OF_HISTORY} run_ids. Received {len(wanted)}.")
    size = validation.bounded(body, "max_results", MAX_INTERVAL, MAX_INTERVAL)
    low, high = validation.number(body, "start_step", -(1 << 62)), validation.number(body, "end_step", 1 << 62)
    if low > high:
        raise invalid(f"end_step must be greater than start_step. Found start_step={low} and end_step={high}.")
    tracking.commit()
    points = []
    for run in wanted:
        within = sorted((each for each in tracking.points.history(run, key) if low <= each[1] <= high), key=lambda each: (each[1], each[0]))
        every = max(1, -(-len(within) // size))
        sampled = within[::every] + ([within[-1]] if within and (len(within) - 1) % every else [])
        points += [{**_shown(key, point), "run_id": run} for point in sampled]
    return {"metrics": points}


def _shown(key: str, point: tuple[int, int, float]) -> dict[str, Any]:
    at_ms, step, value = point
    return {"key": key, "value": number_json(value), "timestamp": at_ms, "step": step}


def datasets(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/search-datasets: what datasets the runs of some experiments read."""
    wanted = validation.texts(body, "experiment_ids")
    if not wanted:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(wanted) > 20:
        raise invalid(f"SearchDatasets request cannot specify more than 20 experiment_ids. Received {len(wanted)} experiment_ids.")
    return {"dataset_summaries": search.datasets(tracking.fresh(), wanted)}
