"""Routes of experiments."""

from __future__ import annotations

from models.tracking.kit import Api


def create(api: Api, name: str, **body: object) -> str:
    return str(api.ok("POST", "experiments/create", name=name, **body)["experiment_id"])


def test_the_default_one_is_there_from_the_start(api: Api) -> None:
    told = api.ok("GET", "experiments/get", experiment_id="0")["experiment"]
    assert (told["name"], told["lifecycle_stage"], told["artifact_location"]) == ("Default", "active", "mlflow-artifacts:/0")


def test_created_found_renamed_tagged(api: Api) -> None:
    made = create(api, "delays", tags=[{"key": "team", "value": "x"}])
    assert api.ok("GET", "experiments/get-by-name", experiment_name="delays")["experiment"]["experiment_id"] == made
    api.ok("POST", "experiments/update", experiment_id=made, new_name="delays 2")
    api.ok("POST", "experiments/set-experiment-tag", experiment_id=made, key="a", value="b")
    api.ok("POST", "experiments/delete-experiment-tag", experiment_id=made, key="team")
    told = api.ok("GET", "experiments/get", experiment_id=made)["experiment"]
    assert (told["name"], told["tags"]) == ("delays 2", [{"key": "a", "value": "b"}])
    assert api.refused("POST", "experiments/delete-experiment-tag", experiment_id=made, key="team")[0] == 404


def test_a_name_is_used_once_also_by_a_deleted_one(api: Api) -> None:
    made = create(api, "delays")
    assert api.refused("POST", "experiments/create", name="delays")[:2] == (400, "RESOURCE_ALREADY_EXISTS")
    api.ok("POST", "experiments/delete", experiment_id=made)
    status, code, message = api.refused("POST", "experiments/create", name="delays")
    assert (status, code, "deleted state" in message) == (400, "RESOURCE_ALREADY_EXISTS", True)


def test_deleted_with_its_runs_and_restored_with_them(api: Api) -> None:
    made = create(api, "delays")
    run = api.run(made)
    api.metric(run, "m", 1.0)
    api.ok("POST", "experiments/delete", experiment_id=made)
    assert api.refused("POST", "runs/create", experiment_id=made)[1] == "INVALID_PARAMETER_VALUE"
    assert api.refused("POST", "runs/log-metric", run_id=run, key="m", value=1, timestamp=1)[1] == "INVALID_PARAMETER_VALUE"
    assert api.refused("POST", "experiments/delete", experiment_id=made)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    api.ok("POST", "experiments/restore", experiment_id=made)
    api.metric(run, "m", 2.0, step=1)
    assert api.refused("POST", "experiments/restore", experiment_id=made)[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_searched_by_name_tag_and_view(api: Api) -> None:
    names = [f"exp {number}" for number in range(5)]
    made = [create(api, name, tags=[{"key": "odd", "value": str(place % 2)}]) for place, name in enumerate(names)]
    api.ok("POST", "experiments/delete", experiment_id=made[0])

    def search(**body: object) -> list[str]:
        return [each["name"] for each in api.ok("POST", "experiments/search", **body)["experiments"]]

    assert search(filter="name LIKE 'exp%'", order_by=["name DESC"]) == ["exp 4", "exp 3", "exp 2", "exp 1"]
    assert search(filter="tags.odd = '1'", order_by=["name"]) == ["exp 1", "exp 3"]
    assert search(view_type="DELETED_ONLY") == ["exp 0"]
    assert len(search(view_type="ALL")) == 6
    first = api.ok("GET", "experiments/search", max_results=4, order_by="name")
    second = api.ok("GET", "experiments/search", max_results=4, order_by="name", page_token=first["next_page_token"])
    assert [each["name"] for each in first["experiments"] + second["experiments"]] == ["Default", "exp 1", "exp 2", "exp 3", "exp 4"]
    assert api.refused("POST", "experiments/search", view_type="SOME")[0] == 400


def test_what_cannot_be_is_refused(api: Api) -> None:
    for body in ({"name": ""}, {"name": 7}, {"name": "x" * 501}, {}, {"name": "y", "artifact_location": "s3://bucket"}):
        assert api.refused("POST", "experiments/create", **body)[:2] == (400, "INVALID_PARAMETER_VALUE"), body
    assert api.refused("GET", "experiments/get", experiment_id="9")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.refused("GET", "experiments/get-by-name", experiment_name="none")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.refused("GET", "experiments/get")[:2] == (400, "INVALID_PARAMETER_VALUE")
