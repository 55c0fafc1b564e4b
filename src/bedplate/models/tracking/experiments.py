"""Routes of experiments. An experiment of bedplate's own is a job: it is there as soon as the job has run, and keeps its name.

Does not know: runs.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from bedplate.models.tracking import drafts, validation
from bedplate.models.tracking.language import EXPERIMENTS, matches, ordered, parse_filter, parse_orders
from bedplate.models.tracking.paging import page
from bedplate.models.tracking.refusal import Refused, invalid, missing
from bedplate.models.tracking.store import Tracking, now_ms

Body = Mapping[str, Any]
_COLUMNS = "id, name, location, lifecycle, created_ms, updated_ms, tags"
VIEWS: Mapping[str, tuple[str, ...]] = {"ACTIVE_ONLY": ("active",), "DELETED_ONLY": ("deleted",), "ALL": ("active", "deleted")}


def lifecycles(body: Body, name: str) -> tuple[str, ...]:
    """The stages of life that a request's view shows. Raises Refused."""
    view = body.get(name) or "ACTIVE_ONLY"
    by_number = {"1": "ACTIVE_ONLY", "2": "DELETED_ONLY", "3": "ALL"}
    found = VIEWS.get(by_number.get(str(view), str(view)))
    if found is None:
        raise invalid(f"Invalid value {json.dumps(view)} for parameter '{name}' supplied: use one of {', '.join(VIEWS)}")
    return found


def create(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/create."""
    name = validation.check_experiment_name(body.get("name"))
    tags = validation.pairs(validation.items(body, "tags"), validation.MAX_EXPERIMENT_TAG_VALUE, "tags")
    location = validation.text(body, "artifact_location", required=False)
    if location and not location.startswith(drafts.ARTIFACT_SCHEME):
        raise invalid(f"Invalid artifact_location '{location}': this server keeps artifacts itself; leave it out")
    _check_unused(tracking, name)
    identity = str(10**17 + secrets.randbelow(9 * 10**17))
    tracking.stage(drafts.experiment_created(identity, name, at_ms=now_ms(), tags=tags))
    return {"experiment_id": identity}


def _check_unused(tracking: Tracking, name: str) -> None:
    row = tracking.fresh().database.execute("SELECT lifecycle FROM experiments WHERE name = ?", (name,)).fetchone()
    if row is not None:
        state = "" if row[0] == "active" else " in deleted state. Restore it, or take another name"
        raise Refused("RESOURCE_ALREADY_EXISTS", f"Experiment '{name}' already exists{state}.")


def found(tracking: Tracking, identity: str) -> dict[str, Any]:
    """An experiment, deleted or not, in MLflow's form. Raises Refused."""
    if not re.fullmatch(r"[0-9]{1,19}", identity):
        raise invalid(f"Invalid experiment ID '{identity}'. Experiment ID must be a valid integer.")
    row = tracking.fresh().database.execute(f"SELECT {_COLUMNS} FROM experiments WHERE id = ?", (identity,)).fetchone()  # noqa: S608 - constant
    if row is None:
        raise missing(f"No Experiment with id={identity} exists")
    return shown(row)


def shown(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row in MLflow's form."""
    identity, name, location, lifecycle, created_ms, updated_ms, tags = row
    return {
        "experiment_id": identity,
        "name": name,
        "artifact_location": location,
        "lifecycle_stage": lifecycle,
        "creation_time": created_ms,
        "last_update_time": updated_ms,
        "tags": [{"key": key, "value": value} for key, value in json.loads(tags).items()],
    }


def get(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET experiments/get."""
    return {"experiment": found(tracking, validation.text(body, "experiment_id"))}


def get_by_name(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET experiments/get-by-name."""
    name = validation.text(body, "experiment_name")
    query = f"SELECT {_COLUMNS} FROM experiments WHERE name = ? ORDER BY lifecycle LIMIT 1"  # noqa: S608 - constant
    row = tracking.fresh().database.execute(query, (name,)).fetchone()
    if row is None:
        raise missing(f"Could not find experiment with name '{name}'")
    return {"experiment": shown(row)}


def active(tracking: Tracking, identity: str) -> dict[str, Any]:
    """An experiment that runs can be added to. Raises Refused."""
    experiment = found(tracking, identity)
    if experiment["lifecycle_stage"] != "active":
        raise invalid(f"The experiment {identity} must be in the 'active' state. Current state is deleted.")
    return experiment


def update(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/update: a new name."""
    identity, name = validation.text(body, "experiment_id"), validation.check_experiment_name(body.get("new_name"))
    if active(tracking, identity)["name"] != name:
        _check_unused(tracking, name)
        tracking.stage(drafts.experiment_changed(identity, at_ms=now_ms(), name=name))
    return {}


def delete(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/delete. It can be restored."""
    identity = validation.text(body, "experiment_id")
    if found(tracking, identity)["lifecycle_stage"] != "active":
        raise missing(f"No Experiment with id={identity} exists")
    tracking.stage(drafts.experiment_changed(identity, at_ms=now_ms(), lifecycle="deleted"))
    return {}


def restore(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/restore."""
    identity = validation.text(body, "experiment_id")
    if found(tracking, identity)["lifecycle_stage"] != "deleted":
        raise missing(f"No deleted Experiment with id={identity} exists")
    tracking.stage(drafts.experiment_changed(identity, at_ms=now_ms(), lifecycle="active"))
    return {}


def set_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/set-experiment-tag."""
    identity = validation.text(body, "experiment_id")
    key, value = validation.pair(body, validation.MAX_EXPERIMENT_TAG_VALUE)
    active(tracking, identity)
    tracking.stage(drafts.experiment_changed(identity, at_ms=now_ms(), tags={key: value}))
    return {}


def delete_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST experiments/delete-experiment-tag."""
    identity, key = validation.text(body, "experiment_id"), validation.check_name(body.get("key"), "key")
    if key not in {tag["key"] for tag in active(tracking, identity)["tags"]}:
        raise missing(f"No tag with name: {key} in experiment with id {identity}")
    tracking.stage(drafts.experiment_changed(identity, at_ms=now_ms(), tags={key: None}))
    return {}


def search(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST or GET experiments/search."""
    size = validation.bounded(body, "max_results", 1000, 50_000)
    comparisons = parse_filter(validation.text(body, "filter", required=False), EXPERIMENTS)
    orders = parse_orders(validation.texts(body, "order_by") or ["last_update_time DESC"], EXPERIMENTS)
    states = lifecycles(body, "view_type")
    rows = tracking.fresh().database.execute(f"SELECT {_COLUMNS} FROM experiments ORDER BY length(id), id").fetchall()  # noqa: S608 - constant
    every = [shown(row) for row in rows if row[3] in states]
    kept = [each for each in every if matches(comparisons, _values(each))]
    part, token = page(ordered(kept, orders, _values), size, body.get("page_token"))
    return {"experiments": part, **({"next_page_token": token} if token else {})}


def _values(experiment: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"attributes": experiment, "tags": {tag["key"]: tag["value"] for tag in experiment["tags"]}}
