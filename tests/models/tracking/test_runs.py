"""Routes of runs: what is logged comes back, and what cannot be is refused as MLflow refuses it."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bedplate.core.event import Draft
from bedplate.core.record import fold
from bedplate.models.tracking.index import own_experiment
from models.tracking.kit import Api


def test_a_run_from_its_creation_to_its_end(api: Api) -> None:
    told = api.ok(
        "POST", "runs/create", experiment_id="0", run_name="first", start_time=5, user_id="ada", tags=[{"key": "team", "value": "x"}]
    )
    run = told["run"]["info"]["run_id"]
    api.ok("POST", "runs/log-parameter", run_id=run, key="lr", value="0.1")
    api.ok("POST", "runs/set-tag", run_id=run, key="note", value="ü")
    api.metric(run, "loss", 0.5, step=1, at_ms=7)
    api.ok("POST", "runs/update", run_id=run, status="FINISHED", end_time=9)
    stored = api.ok("GET", "runs/get", run_id=run)["run"]
    assert stored["info"] == {
        "run_id": run,
        "run_uuid": run,
        "run_name": "first",
        "experiment_id": "0",
        "user_id": "ada",
        "status": "FINISHED",
        "start_time": 5,
        "end_time": 9,
        "artifact_uri": f"mlflow-artifacts:/0/{run}/artifacts",
        "lifecycle_stage": "active",
    }
    assert stored["data"]["params"] == [{"key": "lr", "value": "0.1"}]
    assert {tag["key"]: tag["value"] for tag in stored["data"]["tags"]} == {"team": "x", "note": "ü", "mlflow.runName": "first"}
    assert stored["data"]["metrics"] == [{"key": "loss", "value": 0.5, "timestamp": 7, "step": 1}]


def test_the_ledger_has_the_run_as_a_record_and_the_loop_does_not_drive_it(api: Api) -> None:
    run = api.run(start_time=1000, run_name="first")
    api.metric(run, "loss", 0.25)
    api.ok("POST", "runs/log-batch", run_id=run, params=[{"key": "lr", "value": "1"}], tags=[{"key": "a", "value": "b"}])
    records = fold(api.ledger.read())
    assert (records.runs[run].status, records.live(), records.runs[run].kind) == ("running", [], "logged")
    api.ok("POST", "runs/delete-tag", run_id=run, key="a")
    api.ok("POST", "runs/update", run_id=run, status="FAILED", end_time=3000)
    record = fold(api.ledger.read()).runs[run]
    assert (record.status, record.step, record.duration_s) == ("failed", "logged:Default", 2.0)
    assert (record.params, record.metrics, record.tags) == ({"lr": "1"}, {"loss": 0.25}, {"mlflow.runName": "first"})
    api.ledger.verify()


def test_runs_of_bedplate_show_up_beside_them(api: Api) -> None:
    made = {"step": "train", "kind": "job", "launch": "up-1", "fingerprint": "f"}
    api.append(Draft("run.created", "train-1", made))
    experiment = own_experiment("flights", "train")
    assert api.ok("GET", "experiments/get", experiment_id=experiment)["experiment"]["name"] == "flights/train"
    assert api.ok("GET", "runs/get", run_id="train-1")["run"]["info"]["status"] == "SCHEDULED"
    facts = {"metrics": {"rmse": 12.5}, "params": {"lr": 0.1}, "tags": {"team": "x"}}
    api.append(Draft("run.finished", "train-1", {"status": "succeeded", "outputs": [], **facts}))
    [run] = api.ok("POST", "runs/search", experiment_ids=[experiment], filter="metrics.rmse < 13 and params.lr = '0.1'")["runs"]
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "train-1")
    api.metric("train-1", "later", 3.0)
    assert api.ok("POST", "runs/update", run_id="train-1", status="KILLED")["run_info"]["status"] == "FINISHED", "the loop's word counts"
    assert api.history("train-1", "later") == [(1000, 0, 3.0)]


def test_a_param_never_changes(api: Api) -> None:
    run = api.run()
    for _ in range(2):
        api.ok("POST", "runs/log-parameter", run_id=run, key="lr", value="0.1")
    status, code, message = api.refused("POST", "runs/log-parameter", run_id=run, key="lr", value="0.2")
    assert (status, code) == (400, "INVALID_PARAMETER_VALUE")
    assert "Changing param values is not allowed" in message
    refused = api.refused(
        "POST", "runs/log-batch", run_id=run, metrics=[{"key": "m", "value": 1, "timestamp": 1}], params=[{"key": "lr", "value": "3"}]
    )
    assert refused[1] == "INVALID_PARAMETER_VALUE"
    assert api.history(run, "m") == [], "a batch is taken whole or not at all"


def test_numbers_that_json_has_not(api: Api) -> None:
    run = api.run()
    for step, value in enumerate(("NaN", "Infinity", "-Infinity", 1.5)):
        api.metric(run, "m", value, step=step)
    values = [value for _, _, value in api.history(run, "m")]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 1.5]
    api.metric(run, "n", "NaN", step=9)
    [metric] = [each for each in api.ok("GET", "runs/get", run_id=run)["run"]["data"]["metrics"] if each["key"] == "n"]
    assert metric["value"] == "NaN"


def test_the_same_point_twice_is_one_and_the_latest_is_that_of_the_highest_step(api: Api) -> None:
    run = api.run()
    for value, step, at_ms in ((3.0, 2, 10), (3.0, 2, 10), (4.0, 1, 99), (5.0, 2, 9), (6.0, 2, 10)):
        api.metric(run, "m", value, step, at_ms)
    assert api.history(run, "m") == [(9, 2, 5.0), (10, 2, 3.0), (10, 2, 6.0), (99, 1, 4.0)]
    [latest] = api.ok("GET", "runs/get", run_id=run)["run"]["data"]["metrics"]
    assert (latest["value"], latest["step"], latest["timestamp"]) == (6.0, 2, 10)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(width=32), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8), st.data())
def test_the_latest_value_does_not_depend_on_when_the_index_looks(
    api: Api, points: list[tuple[float, int, int]], data: st.DataObject
) -> None:
    run = api.run()
    for value, step, at_ms in points:
        api.tracking.log(run, (("m", value, at_ms, step),))
        if data.draw(st.booleans()):
            api.tracking.fresh()
    [latest] = api.ok("GET", "runs/get", run_id=run)["run"]["data"]["metrics"]
    newest = max((step, at_ms) for _, step, at_ms in points)
    among = [value for value, step, at_ms in points if (step, at_ms) == newest and value == value]
    found = float(latest["value"])
    assert (latest["step"], latest["timestamp"]) == newest
    assert found == max(among) if among else found != found


def test_what_cannot_be_is_refused(api: Api) -> None:
    run = api.run()
    point = {"run_id": run, "key": "m", "value": 1.0, "timestamp": 1}
    for change, said in (
        ({"key": "../m"}, "must not resolve"),
        ({"key": "a|b"}, "Names may only contain"),
        ({"key": "m" * 251}, "exceeds the maximum length of 250"),
        ({"key": None}, "Missing value for required parameter"),
        ({"value": None}, "Missing value for required parameter 'value'"),
        ({"value": "much"}, "valid double"),
        ({"value": True}, "valid double"),
        ({"timestamp": None}, "Missing value for required parameter 'timestamp'"),
        ({"timestamp": -1}, "nonnegative"),
        ({"step": "x"}, "integer"),
        ({"step": 1 << 63}, "64 bits"),
        ({"run_id": None}, "Missing value for required parameter 'run_id'"),
    ):
        status, code, message = api.refused("POST", "runs/log-metric", **{**point, **change})
        assert (status, code) == (400, "INVALID_PARAMETER_VALUE"), change
        assert said in message
    assert api.refused("POST", "runs/log-metric", **{**point, "run_id": "nobody"})[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.refused("POST", "runs/log-parameter", run_id=run, key="p", value="x" * 6001)[0] == 400
    assert api.refused("POST", "runs/set-tag", run_id=run, key="p", value="x" * 8001)[0] == 400
    many = [{"key": f"m{number}", "value": 1, "timestamp": 1} for number in range(1001)]
    assert "at most 1000 metrics" in api.refused("POST", "runs/log-batch", run_id=run, metrics=many)[2]
    twice = [{"key": "p", "value": "1"}, {"key": "p", "value": "1"}]
    assert "Duplicate parameter keys" in api.refused("POST", "runs/log-batch", run_id=run, params=twice)[2]
    assert api.refused("POST", "runs/update", run_id=run, status="DONE")[0] == 400
    assert api.refused("POST", "runs/create", experiment_id="0", run_name="a", tags=[{"key": "mlflow.runName", "value": "b"}])[0] == 400
    assert api.refused("POST", "runs/create", experiment_id="7")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert api.refused("POST", "runs/delete-tag", run_id=run, key="none")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_deleted_run_takes_nothing_until_it_is_restored(api: Api) -> None:
    run = api.run()
    api.metric(run, "m", 1.0)
    api.ok("POST", "runs/delete", run_id=run)
    assert "must be in the 'active' state" in api.refused("POST", "runs/log-metric", run_id=run, key="m", value=2, timestamp=1)[2]
    assert api.ok("POST", "runs/search", experiment_ids=["0"])["runs"] == []
    assert len(api.ok("POST", "runs/search", experiment_ids=["0"], run_view_type="DELETED_ONLY")["runs"]) == 1
    api.ok("POST", "runs/restore", run_id=run)
    api.metric(run, "m", 2.0, step=1)
    assert len(api.history(run, "m")) == 2


def test_inputs_outputs_and_old_models(api: Api) -> None:
    run = api.run()
    dataset = {"name": "flights", "digest": "abc", "source_type": "local", "source": "{}", "schema": "{}"}
    used = {"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "training"}]}
    api.ok("POST", "runs/log-inputs", run_id=run, datasets=[used], models=[{"model_id": "m-1"}])
    api.ok("POST", "runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": 3}])
    stored = api.ok("GET", "runs/get", run_id=run)["run"]
    assert stored["inputs"] == {"dataset_inputs": [used], "model_inputs": [{"model_id": "m-1"}]}
    assert stored["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 3}]}
    summaries = api.ok("POST", "experiments/search-datasets", experiment_ids=["0"])["dataset_summaries"]
    assert summaries == [{"experiment_id": "0", "name": "flights", "digest": "abc", "context": "training"}]
    assert api.refused("POST", "runs/log-inputs", run_id=run, datasets=[{"tags": []}])[0] == 400
    for number in (1, 2):
        api.ok("POST", "runs/log-model", run_id=run, model_json=f'{{"n": {number}}}')
    tags = {tag["key"]: tag["value"] for tag in api.ok("GET", "runs/get", run_id=run)["run"]["data"]["tags"]}
    assert tags["mlflow.log-model.history"] == '[{"n": 1},{"n": 2}]'


def test_histories_page_and_thin_out(api: Api) -> None:
    run, other = api.run(), api.run()
    api.ok("POST", "runs/log-batch", run_id=run, metrics=[{"key": "m", "value": n, "timestamp": n, "step": n} for n in range(100)])
    api.metric(other, "m", 7.0, step=50)
    first = api.ok("GET", "metrics/get-history", run_id=run, metric_key="m", max_results=60)
    rest = api.ok("GET", "metrics/get-history", run_id=run, metric_key="m", max_results=60, page_token=first["next_page_token"])
    assert [point["step"] for point in (*first["metrics"], *rest["metrics"])] == list(range(100))
    assert "next_page_token" not in rest
    assert api.refused("GET", "metrics/get-history", run_id=run, metric_key="m", max_results=0)[0] == 400
    bulk = api.ok("GET", "metrics/get-history-bulk", run_id=[run, other], metric_key="m", max_results=25000)["metrics"]
    assert (len(bulk), {point["run_id"] for point in bulk}) == (101, {run, other})
    for none in (0, -1):
        assert api.refused("GET", "metrics/get-history-bulk", run_id=[run], metric_key="m", max_results=none)[0] == 400
    thin = api.ok("GET", "metrics/get-history-bulk-interval", run_ids=[run, other], metric_key="m", max_results=10)["metrics"]
    steps = [point["step"] for point in thin if point["run_id"] == run]
    assert (steps[0], steps[-1], len(steps) <= 11) == (0, 99, True)
    within = api.ok("GET", "metrics/get-history-bulk-interval", run_ids=run, metric_key="m", start_step=10, end_step=12)["metrics"]
    assert [point["step"] for point in within] == [10, 11, 12]
    for wrong in ({"run_ids": run, "start_step": 3, "end_step": 2}, {"run_ids": [str(n) for n in range(101)]}):
        assert api.refused("GET", "metrics/get-history-bulk-interval", metric_key="m", **wrong)[0] == 400


def test_searching_pages_through_all_in_order(api: Api) -> None:
    runs = [api.run(start_time=1000 + number) for number in range(7)]
    for number, run in enumerate(runs[:5]):
        api.metric(run, "acc", [0.5, 0.9, 0.1, "NaN", 0.7][number])
    found, token = [], ""
    while True:
        told = api.ok("POST", "runs/search", experiment_ids=["0"], order_by=["metrics.acc DESC"], max_results=2, page_token=token)
        found += [run["info"]["run_id"] for run in told["runs"]]
        token = told.get("next_page_token", "")
        if not token:
            break
    assert found == [runs[place] for place in (1, 4, 0, 2, 3, 6, 5)], "values, NaN, then those without; the newest first among equals"
    assert api.refused("POST", "runs/search", experiment_ids=["0"], max_results=50_001)[0] == 400
    assert api.refused("POST", "runs/search", experiment_ids=["0"], page_token="!")[0] == 400
    assert api.refused("POST", "runs/search", experiment_ids=["0"], filter="metrics.a < 'x'")[0] == 400


@pytest.mark.parametrize("name", ["runs/get", "metrics/get-history", "artifacts/list"])
def test_a_run_that_is_not_there(api: Api, name: str) -> None:
    assert api.refused("GET", name, run_id="nobody", metric_key="m")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
