"""Routes of the registry: models, their versions, aliases, tags, and the stages of old clients.

A version that a client registers is a version of the ledger like any other, named by the digest of the files that it points to. An alias
moves by a recorded decision: a client's call is an override with the client named; the alias that the project's gate guards moves by no
client's call. Versions keep their numbers for ever; one that is removed has a tombstone.
Does not know: gates, or what a version holds.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bedplate.core.digest import digest_files
from bedplate.core.versions import Version
from bedplate.models.decision import decided
from bedplate.models.dsse import sign
from bedplate.models.tracking import artifacts, drafts, validation
from bedplate.models.tracking.language import REGISTERED, VERSIONS, Comparison, matches, ordered, parse_filter, parse_orders
from bedplate.models.tracking.paging import page
from bedplate.models.tracking.refusal import Refused, invalid, missing
from bedplate.models.tracking.store import Tracking, now_ms

Body = Mapping[str, Any]
STAGES = ("None", "Staging", "Production", "Archived")
CLIENT = "mlflow client"
_PROMPT = "mlflow.prompt.is_prompt"
_RENAMED = "the registry renames no model that has versions: their references are in the ledger; register it under the new name"


def _model(tracking: Tracking, name: str) -> dict[str, Any]:
    model = tracking.fresh().document("model", validation.check_model_name(name))
    if model is None:
        raise missing(f"Registered Model with name={name} not found")
    return model


def _version(tracking: Tracking, body: Body) -> dict[str, Any]:
    name, number = validation.text(body, "name"), validation.text(body, "version")
    if not re.fullmatch(r"[0-9]{1,18}", number):
        raise invalid(f"Parameter 'version' must be an integer, got '{number}'.")
    _model(tracking, name)
    version = tracking.index.document("version", f"{name}@{int(number)}")
    if version is None:
        raise missing(f"Model Version (name={name}, version={number}) not found")
    return version


def _by() -> str:
    return f"{CLIENT} of {getpass.getuser()}"


def shown_version(tracking: Tracking, version: Mapping[str, Any]) -> dict[str, Any]:
    """A version in MLflow's form."""
    model = tracking.index.document("model", version["model"]) or {"aliases": {}}
    told = version["mlflow"]
    texts = {name: told[name] for name in ("run_link", "model_id") if told.get(name)}
    return {
        "name": version["model"],
        "version": str(version["number"]),
        "creation_timestamp": version["created_ms"],
        "last_updated_timestamp": version["updated_ms"],
        "current_stage": version["stage"],
        "description": version["description"],
        "source": version["source"],
        "run_id": told.get("run_id", version["run"]),
        "status": "READY",
        **texts,
        "tags": _tags(version["tags"]),
        "aliases": sorted(alias for alias, number in model["aliases"].items() if number == version["number"]),
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(tags.items())]


def _shown(tracking: Tracking, model: Mapping[str, Any]) -> dict[str, Any]:
    newest = _newest(tracking, model["name"], ())
    return {
        "name": model["name"],
        "creation_timestamp": model["created_ms"],
        "last_updated_timestamp": model["updated_ms"],
        "description": model["description"],
        "latest_versions": [shown_version(tracking, version) for version in newest],
        "tags": _tags(model["tags"]),
        "aliases": [{"alias": alias, "version": str(number)} for alias, number in sorted(model["aliases"].items())],
    }


def _newest(tracking: Tracking, name: str, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    """The newest version in each stage, or in those that are asked for."""
    newest: dict[str, dict[str, Any]] = {}
    for version in sorted(tracking.index.documents("version", name), key=lambda version: int(version["number"])):
        newest[version["stage"]] = version
    return [newest[stage] for stage in STAGES if stage in newest and (not stages or stage in stages)]


# -- models -----------------------------------------------------------------------------------------------------------------------


def create_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST registered-models/create."""
    name = validation.check_model_name(body.get("name"))
    if tracking.fresh().document("model", name) is not None:
        raise Refused("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={name}) already exists.")
    tags = validation.pairs(validation.items(body, "tags"), validation.MAX_MODEL_TAG_VALUE, "tags")
    described = validation.text(body, "description", required=False)
    tracking.stage(drafts.model_changed(name, at_ms=now_ms(), description=described, tags=tags))
    return {"registered_model": _shown(tracking, _model(tracking, name))}


def get_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET registered-models/get."""
    return {"registered_model": _shown(tracking, _model(tracking, validation.text(body, "name")))}


def update_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """PATCH registered-models/update: its description."""
    name = _model(tracking, validation.text(body, "name"))["name"]
    tracking.stage(drafts.model_changed(name, at_ms=now_ms(), description=validation.text(body, "description", required=False)))
    return {"registered_model": _shown(tracking, _model(tracking, name))}


def rename_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST registered-models/rename. A model that has versions keeps its name."""
    name, new = _model(tracking, validation.text(body, "name"))["name"], validation.check_model_name(body.get("new_name"), "new_name")
    if new != name:
        if tracking.index.document("model", new) is not None:
            raise Refused("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={new}) already exists.")
        if tracking.index.documents("version", name):
            raise Refused("NOT_IMPLEMENTED", _RENAMED)
        tracking.stage(drafts.model_changed(name, at_ms=now_ms(), renamed=new))
    return {"registered_model": _shown(tracking, _model(tracking, new))}


def delete_model(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE registered-models/delete: with tombstones for its versions."""
    name = _model(tracking, validation.text(body, "name"))["name"]
    _check_unguarded(tracking, name)
    for version in tracking.index.documents("version", name):
        tracking.stage(drafts.version_removed(f"{name}@{version['number']}", version["digest"], _by(), "its model was deleted"))
    tracking.stage(drafts.model_changed(name, at_ms=now_ms(), removed=True))
    return {}


def search_models(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET registered-models/search."""
    size = validation.bounded(body, "max_results", 100, 1000)
    comparisons = parse_filter(validation.text(body, "filter", required=False), REGISTERED)
    orders = parse_orders(validation.texts(body, "order_by") or ["name ASC"], REGISTERED)
    models = tracking.fresh().documents("model")
    kept = ordered([model for model in models if _matches(comparisons, _model_values(model))], orders, _model_values)
    part, token = page(kept, size, body.get("page_token"))
    return {"registered_models": [_shown(tracking, model) for model in part], **({"next_page_token": token} if token else {})}


def _matches(comparisons: Sequence[Comparison], values: Mapping[str, Mapping[str, Any]]) -> bool:
    """As `matches`; but a client that leaves prompts out does so by a tag that a model has not."""
    tags = {_PROMPT: "false", **values["tags"]}
    return matches(comparisons, {**values, "tags": tags})


def _model_values(model: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    times = {"creation_timestamp": model["created_ms"], "last_updated_timestamp": model["updated_ms"]}
    return {"attributes": {"name": model["name"], **times}, "tags": model["tags"]}


def latest_versions(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET or POST registered-models/get-latest-versions."""
    name = _model(tracking, validation.text(body, "name"))["name"]
    stages = tuple(_stage(stage) for stage in validation.texts(body, "stages"))
    return {"model_versions": [shown_version(tracking, version) for version in _newest(tracking, name, stages)]}


def set_model_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST registered-models/set-tag."""
    name = _model(tracking, validation.text(body, "name"))["name"]
    key, value = validation.pair(body, validation.MAX_MODEL_TAG_VALUE)
    tracking.stage(drafts.model_changed(name, at_ms=now_ms(), tags={key: value}))
    return {}


def delete_model_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE registered-models/delete-tag."""
    name = _model(tracking, validation.text(body, "name"))["name"]
    tracking.stage(drafts.model_changed(name, at_ms=now_ms(), tags={validation.check_name(body.get("key"), "key"): None}))
    return {}


# -- versions ---------------------------------------------------------------------------------------------------------------------


def create_version(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST model-versions/create. The source is a place of this server's artifacts, or an address that only the client knows."""
    name, source = _model(tracking, validation.text(body, "name"))["name"], validation.text(body, "source")
    tags = validation.pairs(validation.items(body, "tags"), validation.MAX_MODEL_TAG_VALUE, "tags")
    run, described = validation.text(body, "run_id", required=False), validation.text(body, "description", required=False)
    location, digest = _content(tracking, source)
    number = max(_numbers(tracking, name), default=0) + 1
    texts = {each: validation.text(body, each, required=False) for each in ("run_link", "model_id")}
    told = {"source": source, "run_id": run, "description": described, **texts}
    version = Version(name, number, "model", digest, location, run, time.time(), {"mlflow": told})
    tracking.stage(drafts.version_created(version))
    if tags:
        tracking.stage(drafts.version_tagged(version.ref, tags, _by()))
    return {"model_version": shown_version(tracking, _version(tracking, {"name": name, "version": str(number)}))}


def _numbers(tracking: Tracking, name: str) -> list[int]:
    """All numbers that versions of a model ever had: a number is never used twice."""
    events = tracking.index.database.execute("SELECT id FROM documents WHERE kind = 'number' AND owner = ?", (name,))
    return [int(identity.rpartition("@")[2]) for (identity,) in events]


def _content(tracking: Tracking, source: str) -> tuple[str, str]:
    """Where the files of a version lie below the state folder, and their digest; of an address elsewhere, the digest of its text."""
    path = source
    if source.startswith("models:/"):
        model = tracking.fresh().document("logged_model", source.removeprefix("models:/").strip("/"))
        if model is None:
            raise missing(f"No logged model at '{source}'")
        path = str(model["artifact_uri"])
    if source.startswith("runs:/"):
        run, _, below = source.removeprefix("runs:/").partition("/")
        path = f"{_run_uri(tracking, run)}/{below}"
    if not path.startswith(drafts.ARTIFACT_SCHEME):
        if path.startswith(("/", "file:")):
            raise invalid(f"Invalid model version source: '{source}'. Log a local path as an artifact first.")
        return source, hashlib.sha256(source.encode()).hexdigest()
    folder = artifacts.place(tracking, artifacts.checked(path.removeprefix(drafts.ARTIFACT_SCHEME).strip("/")))
    names = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    try:
        location = str(folder.relative_to(tracking.state.resolve()))
    except ValueError:
        location = str(Path(path))
    return location, digest_files(folder, names)


def _run_uri(tracking: Tracking, run: str) -> str:
    row = tracking.fresh().database.execute("SELECT artifact_uri FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        raise missing(f"Run with id={run} not found")
    return str(row[0])


def get_version(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET model-versions/get."""
    return {"model_version": shown_version(tracking, _version(tracking, body))}


def update_version(tracking: Tracking, body: Body) -> dict[str, Any]:
    """PATCH model-versions/update: its description."""
    version = _version(tracking, body)
    described = validation.text(body, "description", required=False)
    tracking.stage(drafts.version_tagged(_ref(version), {}, _by(), description=described))
    return get_version(tracking, body)


def _ref(version: Mapping[str, Any]) -> str:
    return f"{version['model']}@{version['number']}"


def _stage(text: str) -> str:
    found = {stage.lower(): stage for stage in STAGES}.get(text.lower())
    if found is None:
        raise invalid(f"Invalid Model Version stage: {text}. Value must be one of {', '.join(STAGES)}.")
    return found


def transition(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST model-versions/transition-stage, for old clients. A stage is a label: it deploys nothing."""
    version, stage = _version(tracking, body), _stage(validation.text(body, "stage"))
    if body.get("archive_existing_versions") in (True, "true"):
        if stage not in ("Staging", "Production"):
            raise invalid("Model version transition cannot archive existing model versions because the stage is not an active one.")
        for other in tracking.index.documents("version", version["model"]):
            if other["stage"] == stage and other["number"] != version["number"]:
                tracking.stage(drafts.version_tagged(_ref(other), {}, _by(), stage="Archived"))
    tracking.stage(drafts.version_tagged(_ref(version), {}, _by(), stage=stage))
    return get_version(tracking, body)


def delete_version(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE model-versions/delete: a tombstone. The files stay."""
    version = _version(tracking, body)
    model = _model(tracking, version["model"])
    held = [alias for alias, number in model["aliases"].items() if number == version["number"]]
    if model["name"] in tracking.guarded and held:
        raise Refused("PERMISSION_DENIED", f"{_ref(version)} is {', '.join(held)}: bedplate's gate decides about it, no client")
    tracking.stage(drafts.version_removed(_ref(version), version["digest"], _by(), "deleted by an MLflow client"))
    return {}


def search_versions(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET model-versions/search."""
    size = validation.bounded(body, "max_results", 10_000, 200_000)
    comparisons = parse_filter(validation.text(body, "filter", required=False), VERSIONS)
    given = validation.texts(body, "order_by")
    orders = parse_orders(given or ["last_updated_timestamp DESC", "name ASC", "version_number DESC"], VERSIONS)
    versions = tracking.fresh().documents("version")
    kept = ordered([each for each in versions if _matches(comparisons, _version_values(each))], orders, _version_values)
    part, token = page(kept, size, body.get("page_token"))
    return {"model_versions": [shown_version(tracking, each) for each in part], **({"next_page_token": token} if token else {})}


def _version_values(version: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    attributes = {
        "name": version["model"],
        "run_id": version["mlflow"].get("run_id", version["run"]),
        "source_path": version["source"],
        "version_number": version["number"],
        "version": str(version["number"]),
        "creation_timestamp": version["created_ms"],
        "last_updated_timestamp": version["updated_ms"],
    }
    return {"attributes": attributes, "tags": version["tags"]}


def download_uri(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET model-versions/get-download-uri."""
    source = str(_version(tracking, body)["source"])
    if source.startswith("models:/"):
        model = tracking.index.document("logged_model", source.removeprefix("models:/").strip("/"))
        source = str(model["artifact_uri"]) if model else source
    return {"artifact_uri": source}


def set_version_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST model-versions/set-tag."""
    version = _version(tracking, body)
    key, value = validation.pair(body, validation.MAX_MODEL_TAG_VALUE)
    tracking.stage(drafts.version_tagged(_ref(version), {key: value}, _by()))
    return {}


def delete_version_tag(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE model-versions/delete-tag."""
    version = _version(tracking, body)
    tracking.stage(drafts.version_tagged(_ref(version), {validation.check_name(body.get("key"), "key"): None}, _by()))
    return {}


# -- aliases ----------------------------------------------------------------------------------------------------------------------


def _check_unguarded(tracking: Tracking, name: str) -> None:
    if name in tracking.guarded:
        raise Refused(
            "PERMISSION_DENIED",
            f"the project declares the model {name}: its gate decides, or a person with `bedplate promote`, no client",
        )


def set_alias(tracking: Tracking, body: Body) -> dict[str, Any]:
    """POST registered-models/alias."""
    alias = validation.check_alias(body.get("alias"))
    version = _version(tracking, body)
    _check_unguarded(tracking, version["model"])
    decision = {"by": _by(), "promoted": True, "override": True, "why": "set by an MLflow client"}
    tracking.stage(drafts.alias_moved(version["model"], alias, version["number"], _signed(tracking, version, alias, decision)))
    return {}


def delete_alias(tracking: Tracking, body: Body) -> dict[str, Any]:
    """DELETE registered-models/alias."""
    alias, model = validation.check_alias(body.get("alias")), _model(tracking, validation.text(body, "name"))
    _check_unguarded(tracking, model["name"])
    if alias in model["aliases"]:
        version = tracking.index.document("version", f"{model['name']}@{model['aliases'][alias]}")
        assert version is not None, "an alias points to a version"
        decision = {"by": _by(), "promoted": False, "withdrawn": True, "override": True, "why": "deleted by an MLflow client"}
        tracking.stage(drafts.alias_moved(model["name"], alias, None, _signed(tracking, version, alias, decision)))
    return {}


def _signed(tracking: Tracking, version: Mapping[str, Any], alias: str, decision: Mapping[str, Any]) -> dict[str, Any]:
    """The decision with the envelope of its statement, which speaks of the version's very bytes and of the ledger it rests on."""
    subject = Version(version["model"], version["number"], "model", version["digest"], "", "", 0.0)
    head = tracking.ledger.head()
    context = {"ledger": {"id": tracking.ledger.id, "event": head.seq, "digest": head.digest}}
    said = decided(subject, alias, decision, now_ms() / 1000, {}, context)
    return {**decision, "envelope": sign(said, tracking.key)}


def by_alias(tracking: Tracking, body: Body) -> dict[str, Any]:
    """GET registered-models/alias."""
    alias, model = validation.text(body, "alias"), _model(tracking, validation.text(body, "name"))
    if alias not in model["aliases"]:
        raise invalid(f"Registered model alias {alias} not found.")
    return get_version(tracking, {"name": model["name"], "version": str(model["aliases"][alias])})
