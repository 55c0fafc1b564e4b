"""Events of tracking, as drafts: what a client says of experiments, runs, logged models, traces and models of the registry.

One function a kind of event, so that routes, imports and the fold agree on what a payload holds. `tags` of a change map a name to its
text, or to None where the tag is removed. Metric points are no events: a change carries at most the latest value of each metric.
Does not know: whether what is said can be so (`validation`, the routes), or how it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.core.event import Draft
from bedplate.core.versions import Version
from bedplate.models.tracking.refusal import number_json

Tags = Mapping[str, str | None]
ARTIFACT_SCHEME = "mlflow-artifacts:/"
NAME_TAG = "mlflow.runName"


def artifact_uri(experiment: str, run: str) -> str:
    """Where the artifacts of a run that a client logged lie, as the client is told it."""
    return f"{ARTIFACT_SCHEME}{experiment}/{run}/artifacts"


def experiment_created(experiment: str, name: str, *, at_ms: int, location: str = "", tags: Mapping[str, str] | None = None) -> Draft:
    """An experiment with that id and name; `location` is its artifact folder's address if it is not the usual one."""
    payload = {"name": name, "artifact_location": location or f"{ARTIFACT_SCHEME}{experiment}", "at_ms": at_ms, "tags": dict(tags or {})}
    return Draft("experiment.created", experiment, payload, key=f"experiment/{experiment}")


def experiment_changed(experiment: str, *, at_ms: int, **changes: Any) -> Draft:
    """An experiment's `name`, `lifecycle` ("active" or "deleted") or `tags` changed."""
    return Draft("experiment.changed", experiment, {"at_ms": at_ms, **changes})


def run_logged(
    run: str,
    experiment: str,
    experiment_name: str,
    *,
    name: str,
    user: str,
    start_ms: int,
    tags: Mapping[str, str] | None = None,
    uri: str = "",
) -> Draft:
    """A client began a run. Its name is also the tag `mlflow.runName`, as MLflow has it."""
    payload = {
        "experiment": experiment,
        "experiment_name": experiment_name,
        "name": name,
        "user": user,
        "start_ms": start_ms,
        "tags": {NAME_TAG: name, **(tags or {})},
        "artifact_uri": uri or artifact_uri(experiment, run),
        "status": "RUNNING",
    }
    return Draft("run.logged", run, payload, key=f"logged/{run}")


def run_changed(run: str, **changes: Any) -> Draft:
    """A run: `name`, `status`, `end_ms`, `lifecycle`, `params`, `tags`, `metrics` (see `latest`), `datasets`, `models_in`, `models_out`."""
    return Draft("run.changed", run, changes)


def latest(points: Mapping[str, tuple[float, int, int]]) -> dict[str, list[float | int | str]]:
    """The `metrics` of `run_changed`: the latest (value, milliseconds since the epoch, step) by name, with NaN as text."""
    return {name: [number_json(value), at_ms, step] for name, (value, at_ms, step) in points.items()}


def logged_model_created(model: str, payload: Mapping[str, Any]) -> Draft:
    """A client logged a model in MLflow's sense."""
    return Draft("candidate.logged", model, payload, key=f"logged_model/{model}")


def logged_model_changed(model: str, *, at_ms: int, **changes: Any) -> Draft:
    """A logged model's `status`, `tags`, `params` or `lifecycle` changed."""
    return Draft("candidate.changed", model, {"at_ms": at_ms, **changes})


def trace_recorded(trace: str, payload: Mapping[str, Any]) -> Draft:
    """A client recorded a trace."""
    return Draft("trace.recorded", trace, payload, key=f"trace/{trace}")


def trace_changed(trace: str, **changes: Any) -> Draft:
    """A trace's `tags`, `lifecycle`, or what its end told."""
    return Draft("trace.changed", trace, changes)


def model_changed(name: str, *, at_ms: int, **changes: Any) -> Draft:
    """What the registry says of a model: `created`, `description`, `tags`, `removed`, `renamed`."""
    return Draft("model.changed", name, {"at_ms": at_ms, **changes})


def version_created(version: Version) -> Draft:
    """A version of a model that a client registered."""
    return Draft("version.created", version.ref, {"version": version.to_json()}, key=f"version/{version.ref}")


def version_tagged(ref: str, tags: Tags, by: str, **changes: Any) -> Draft:
    """Tags of a version, and its `description` or `stage`."""
    return Draft("version.tagged", ref, {"tags": dict(tags), "by": by, **changes})


def version_removed(ref: str, digest: str, by: str, reason: str) -> Draft:
    """A version's tombstone."""
    return Draft("version.removed", ref, {"by": by, "reason": reason, "digest": digest})


def alias_moved(name: str, alias: str, number: int | None, decision: Mapping[str, Any]) -> Draft:
    """An alias moved to a version, or away, by a client's call: an override, recorded as such and signed."""
    return Draft("alias.moved", name, {"alias": alias, "version": number, "decision": dict(decision)})
