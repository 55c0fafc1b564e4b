"""Routes of MLflow 3's logged models."""

from __future__ import annotations

import pytest

from bedplate.models.tracking.artifacts import Upload
from models.tracking.kit import Api


def create(api: Api, **body: object) -> str:
    return str(api.ok("POST", "logged-models", experiment_id="0", **body)["model"]["info"]["model_id"])


def test_a_logged_model_from_its_creation_to_its_end(api: Api) -> None:
    run = api.run()
    api.metric(run, "rmse", 12.5)
    params, tags = [{"key": "depth", "value": "3"}], [{"key": "team", "value": "x"}]
    model = create(api, name="delay", model_type="sklearn", source_run_id=run, params=params, tags=tags)
    told = api.ok("GET", f"logged-models/{model}")["model"]
    assert told["info"]["status"] == "LOGGED_MODEL_PENDING"
    assert told["info"]["artifact_uri"] == f"mlflow-artifacts:/0/models/{model}/artifacts"
    assert (told["data"]["params"], told["info"]["tags"], told["info"]["model_type"]) == (params, tags, "sklearn")
    assert [(each["key"], each["value"], each["model_id"]) for each in told["data"]["metrics"]] == [("rmse", 12.5, model)]
    for status, said in ((2, "LOGGED_MODEL_READY"), ("LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_UPLOAD_FAILED")):
        assert api.ok("PATCH", f"logged-models/{model}", status=status)["model"]["info"]["status"] == said
    assert api.refused("PATCH", f"logged-models/{model}", status="DONE")[0] == 400
    api.ok("PATCH", f"logged-models/{model}/tags", tags=[{"key": "a", "value": "b"}])
    api.ok("DELETE", f"logged-models/{model}/tags/team")
    assert api.refused("DELETE", f"logged-models/{model}/tags/team")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    api.ok("POST", f"logged-models/{model}/params", params=[{"key": "lr", "value": "1"}])
    told = api.ok("GET", f"logged-models/{model}")["model"]
    assert told["info"]["tags"] == [{"key": "a", "value": "b"}]
    assert [each["key"] for each in told["data"]["params"]] == ["depth", "lr"]
    api.ok("DELETE", f"logged-models/{model}")
    assert api.refused("GET", f"logged-models/{model}")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.ok("GET", f"logged-models/{model}", allow_deleted="true")["model"]["info"]["model_id"] == model


def test_its_files_are_listed(api: Api) -> None:
    model = create(api, name="delay")
    for name in ("MLmodel", "data/x.bin"):
        upload = Upload(api.tracking, f"0/models/{model}/artifacts/{name}")
        upload.write(b"x")
        upload.finish()
    told = api.ok("GET", f"logged-models/{model}/artifacts/directories")["files"]
    assert [file["path"] for file in told] == ["MLmodel", "data"]
    below = api.ok("GET", f"logged-models/{model}/artifacts/directories", artifact_directory_path="data")["files"]
    assert [file["path"] for file in below] == ["data/x.bin"]
    assert api.refused("GET", f"logged-models/{model}/artifacts/directories", artifact_directory_path="../..")[0] == 400


def test_searching(api: Api) -> None:
    runs = [api.run() for _ in range(3)]
    for number, run in enumerate(runs):
        api.metric(run, "acc", number / 10)
    models = [
        create(api, name=f"m{number}", source_run_id=run, tags=[{"key": "n", "value": str(number)}]) for number, run in enumerate(runs)
    ]
    api.ok("DELETE", f"logged-models/{models[2]}")

    def search(**body: object) -> list[str]:
        return [each["info"]["name"] for each in api.ok("POST", "logged-models/search", experiment_ids=["0"], **body)["models"]]

    assert search(order_by=[{"field_name": "metrics.acc", "ascending": False}]) == ["m1", "m0"]
    assert search(filter="metrics.acc > 0.05") == ["m1"]
    assert search(filter="name LIKE 'm%' and tags.n = '0'") == ["m0"]
    assert search(filter=f"source_run_id = '{runs[1]}'") == ["m1"]
    first = api.ok("POST", "logged-models/search", experiment_ids=["0"], max_results=1)
    second = api.ok("POST", "logged-models/search", experiment_ids=["0"], max_results=1, page_token=first["next_page_token"])
    assert {each["info"]["name"] for each in first["models"] + second["models"]} == {"m0", "m1"}
    assert api.ok("POST", "logged-models/search", experiment_ids=["1"])["models"] == []


@pytest.mark.parametrize("name", ["a/b", "a:b", "a.b", "100%"])
def test_names_that_cannot_be(api: Api, name: str) -> None:
    assert api.refused("POST", "logged-models", experiment_id="0", name=name)[:2] == (400, "INVALID_PARAMETER_VALUE")
