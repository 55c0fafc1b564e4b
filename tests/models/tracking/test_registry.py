"""Routes of the registry: versions are versions of the ledger, aliases move by recorded decisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.event import Draft
from bedplate.core.record import fold
from bedplate.core.versions import Version
from bedplate.models.decision import objection
from bedplate.models.dsse import verify
from bedplate.models.tracking.artifacts import Upload
from models.tracking.kit import Api


def put(api: Api, path: str, data: bytes) -> None:
    upload = Upload(api.tracking, path)
    upload.write(data)
    upload.finish()


def register(api: Api, name: str = "delay", data: bytes = b"weights") -> str:
    """A run with a file, registered; its version's number."""
    if api.call("GET", "registered-models/get", name=name)[0] == 404:
        api.ok("POST", "registered-models/create", name=name)
    run = api.run()
    put(api, f"0/{run}/artifacts/model/weights.bin", data)
    source = f"mlflow-artifacts:/0/{run}/artifacts/model"
    return str(api.ok("POST", "model-versions/create", name=name, source=source, run_id=run)["model_version"]["version"])


def test_a_version_is_one_of_the_ledger_named_by_its_files(api: Api) -> None:
    assert [register(api), register(api, data=b"other"), register(api)] == ["1", "2", "3"]
    versions = fold(api.ledger.read()).versions["delay"]
    assert [version.ref for version in versions] == ["delay@1", "delay@2", "delay@3"]
    assert versions[0].digest == versions[2].digest != versions[1].digest
    assert (api.state / versions[0].location / "weights.bin").read_bytes() == b"weights"
    assert versions[0].run in fold(api.ledger.read()).runs
    told = api.ok("GET", "model-versions/get", name="delay", version="1")["model_version"]
    assert (told["status"], told["current_stage"], told["run_id"]) == ("READY", "None", versions[0].run)
    assert api.ok("GET", "model-versions/get-download-uri", name="delay", version="1")["artifact_uri"] == told["source"]


@pytest.mark.parametrize("number", ["²", "1.0", "-1", "one", "1_0", "9" * 5000])
def test_a_version_that_is_no_number_is_refused(api: Api, number: str) -> None:
    register(api)
    assert api.refused("GET", "model-versions/get", name="delay", version=number)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_sources_of_every_kind(api: Api) -> None:
    api.ok("POST", "registered-models/create", name="delay")
    run = api.run()
    put(api, f"0/{run}/artifacts/model/weights.bin", b"x")
    model = api.ok("POST", "logged-models", experiment_id="0", name="lm", source_run_id=run)["model"]["info"]
    put(api, f"0/models/{model['model_id']}/artifacts/weights.bin", b"x")
    for source in (f"runs:/{run}/model", f"models:/{model['model_id']}", "s3://bucket/model"):
        api.ok("POST", "model-versions/create", name="delay", source=source)
    versions = fold(api.ledger.read()).versions["delay"]
    assert versions[0].digest == versions[1].digest != versions[2].digest
    assert api.ok("GET", "model-versions/get-download-uri", name="delay", version="2")["artifact_uri"] == model["artifact_uri"]
    for source in ("/etc", "file:///etc", "mlflow-artifacts:/0/../../..", "mlflow-artifacts:/../x"):
        assert api.refused("POST", "model-versions/create", name="delay", source=source)[:2] == (400, "INVALID_PARAMETER_VALUE"), source
    for source in ("runs:/nobody/model", "models:/m-none"):
        assert api.refused("POST", "model-versions/create", name="delay", source=source)[0] == 404


def test_an_alias_moves_by_a_recorded_decision(api: Api) -> None:
    register(api)
    register(api)
    for version in ("1", "2"):
        api.ok("POST", "registered-models/alias", name="delay", alias="champion", version=version)
    moves = fold(api.ledger.read()).aliases[("delay", "champion")]
    assert [move.version for move in moves] == [1, 2]
    assert all(move.decision["override"] and "mlflow client" in move.decision["by"] for move in moves)
    assert api.ok("GET", "registered-models/alias", name="delay", alias="champion")["model_version"]["version"] == "2"
    assert api.ok("GET", "registered-models/get", name="delay")["registered_model"]["aliases"] == [{"alias": "champion", "version": "2"}]
    api.ok("DELETE", "registered-models/alias", name="delay", alias="champion")
    assert api.refused("GET", "registered-models/alias", name="delay", alias="champion")[1] == "INVALID_PARAMETER_VALUE"
    *moves, withdrawn = fold(api.ledger.read()).aliases[("delay", "champion")]
    assert withdrawn.version is None
    for move, version in zip(moves, fold(api.ledger.read()).versions["delay"], strict=True):
        said = verify(move.decision["envelope"], api.key.public_key())
        assert objection(said, version, "champion") == ""
        assert said["predicate"]["ledger"]["id"] == api.ledger.id
    assert "withdrawn" in objection(verify(withdrawn.decision["envelope"], api.key.public_key()), version, "champion")
    for alias in ("latest", "v1", "a b", ""):
        assert api.refused("POST", "registered-models/alias", name="delay", alias=alias, version="1")[0] == 400


def test_the_gate_s_model_is_no_clients_to_promote_or_delete(tmp_path: Path) -> None:
    api = Api(tmp_path, guarded=("delay",))
    register(api)
    api.append(Draft("alias.moved", "delay", {"alias": "production", "version": 1, "decision": {"by": "gate"}}))
    for method, path, body in (
        ("POST", "registered-models/alias", {"alias": "production", "version": "1"}),
        ("DELETE", "registered-models/alias", {"alias": "production"}),
        ("DELETE", "registered-models/delete", {}),
        ("DELETE", "model-versions/delete", {"version": "1"}),
    ):
        assert api.refused(method, path, name="delay", **body)[:2] == (403, "PERMISSION_DENIED"), path
    assert fold(api.ledger.read()).alias("delay", "production") == 1
    api.close()


def test_versions_of_the_gate_are_seen_by_clients(api: Api) -> None:
    version = Version("amount", 1, "model", "d" * 64, "runs/fit-1/1/out/model", "fit-1", 5.0)
    api.append(
        Draft("version.created", version.ref, {"version": version.to_json()}),
        Draft("version.created", "table@1", {"version": {**version.to_json(), "name": "table", "kind": "table"}}),
        Draft("alias.moved", "amount", {"alias": "production", "version": 1, "decision": {"by": "gate"}}),
    )
    [model] = api.ok("GET", "registered-models/search")["registered_models"]
    assert (model["name"], model["aliases"], model["latest_versions"][0]["run_id"]) == (
        "amount",
        [{"alias": "production", "version": "1"}],
        "fit-1",
    )


def test_a_number_is_never_used_twice(api: Api) -> None:
    register(api)
    register(api)
    api.ok("POST", "registered-models/alias", name="delay", alias="champion", version="2")
    api.ok("DELETE", "model-versions/delete", name="delay", version="2")
    assert api.refused("GET", "model-versions/get", name="delay", version="2")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.ok("GET", "registered-models/get", name="delay")["registered_model"]["aliases"] == []
    assert register(api) == "3"
    api.ok("DELETE", "registered-models/delete", name="delay")
    assert api.refused("GET", "registered-models/get", name="delay")[0] == 404
    assert register(api) == "4"
    assert [event.subject for event in api.ledger.read() if event.kind == "version.removed"] == ["delay@2", "delay@1", "delay@3"]


def test_tags_descriptions_and_the_stages_of_old_clients(api: Api) -> None:
    for _ in range(2):
        register(api)
    api.ok("PATCH", "registered-models/update", name="delay", description="minutes late")
    api.ok("POST", "registered-models/set-tag", name="delay", key="team", value="x")
    api.ok("POST", "registered-models/set-tag", name="delay", key="gone", value="x")
    api.ok("DELETE", "registered-models/delete-tag", name="delay", key="gone")
    model = api.ok("GET", "registered-models/get", name="delay")["registered_model"]
    assert (model["description"], model["tags"]) == ("minutes late", [{"key": "team", "value": "x"}])
    api.ok("PATCH", "model-versions/update", name="delay", version="1", description="first")
    api.ok("POST", "model-versions/set-tag", name="delay", version="1", key="a", value="b")
    api.ok("POST", "model-versions/set-tag", name="delay", version="1", key="c", value="d")
    api.ok("DELETE", "model-versions/delete-tag", name="delay", version="1", key="c")
    version = api.ok("GET", "model-versions/get", name="delay", version="1")["model_version"]
    assert (version["description"], version["tags"]) == ("first", [{"key": "a", "value": "b"}])
    api.ok("POST", "model-versions/transition-stage", name="delay", version="1", stage="production")
    told = api.ok("POST", "model-versions/transition-stage", name="delay", version="2", stage="Production", archive_existing_versions=True)
    assert told["model_version"]["current_stage"] == "Production"
    newest = api.ok("POST", "registered-models/get-latest-versions", name="delay")["model_versions"]
    assert [(each["version"], each["current_stage"]) for each in newest] == [("2", "Production"), ("1", "Archived")]
    assert api.refused("POST", "model-versions/transition-stage", name="delay", version="1", stage="Shelf")[0] == 400


def test_searching_and_renaming(api: Api) -> None:
    register(api)
    api.ok("POST", "registered-models/create", name="other", tags=[{"key": "team", "value": "y"}], description="d")
    search = api.ok("GET", "registered-models/search", filter="name LIKE 'o%' and tags.team = 'y'")
    assert [each["name"] for each in search["registered_models"]] == ["other"]
    assert [each["name"] for each in api.ok("GET", "registered-models/search", order_by="name DESC")["registered_models"]] == [
        "other",
        "delay",
    ]
    prompts = "tags.`mlflow.prompt.is_prompt` != 'true'"
    assert len(api.ok("GET", "registered-models/search", filter=prompts)["registered_models"]) == 2
    assert len(api.ok("GET", "model-versions/search", filter="name = 'delay' and version_number >= 1")["model_versions"]) == 1
    assert api.ok("GET", "model-versions/search", filter="name = 'none'")["model_versions"] == []
    api.ok("POST", "registered-models/rename", name="other", new_name="third")
    assert api.ok("GET", "registered-models/get", name="third")["registered_model"]["description"] == "d"
    assert api.refused("POST", "registered-models/rename", name="delay", new_name="fourth")[:2] == (501, "NOT_IMPLEMENTED")
    assert api.refused("POST", "registered-models/rename", name="third", new_name="delay")[1] == "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a@1", "..", "x" * 257])
def test_names_that_cannot_be(api: Api, name: str) -> None:
    assert api.refused("POST", "registered-models/create", name=name)[:2] == (400, "INVALID_PARAMETER_VALUE")


def test_what_is_there_or_is_not(api: Api) -> None:
    register(api)
    assert api.refused("POST", "registered-models/create", name="delay")[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    assert api.refused("GET", "model-versions/get", name="delay", version="x")[0] == 400
    assert api.refused("GET", "model-versions/get", name="delay", version="9")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.refused("POST", "model-versions/create", name="none", source="s3://x")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
