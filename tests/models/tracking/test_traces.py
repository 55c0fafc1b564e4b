"""Routes of traces: as much as clients need."""

from __future__ import annotations

from models.tracking.kit import Api

THREE = "/api/3.0/mlflow/"


def record(api: Api, number: int, experiment: str = "0", **more: object) -> dict[str, object]:
    info = {
        "trace_id": f"tr-{number}",
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
        "request_time": f"2026-01-0{number}T00:00:00.250Z",
        "execution_duration": f"{number}.5s",
        "state": "OK",
        "trace_metadata": {"mlflow.sourceRun": f"run-{number}"},
        "tags": {"mlflow.traceName": f"call {number}"},
        "request_preview": "{}",
    }
    return dict(api.ok("POST", f"{THREE}traces", trace={"trace_info": {**info, **more}})["trace"]["trace_info"])


def test_a_trace_is_recorded_with_a_place_for_its_spans(api: Api) -> None:
    told = record(api, 1)
    assert told["tags"] == {"mlflow.traceName": "call 1", "mlflow.artifactLocation": "mlflow-artifacts:/0/traces/tr-1/artifacts"}
    assert (told["request_time"], told["execution_duration"], told["state"]) == ("2026-01-01T00:00:00.250Z", "1.500s", "OK")
    assert api.ok("GET", f"{THREE}traces/tr-1")["trace"]["trace_info"] == told
    assert [event.kind for event in api.ledger.read()][-1] == "trace.recorded"


def test_tags_of_both_versions_of_the_route(api: Api) -> None:
    record(api, 1)
    api.ok("PATCH", "traces/tr-1/tags", key="a", value="b")
    api.ok("PATCH", f"{THREE}traces/tr-1/tags", key="c", value="d")
    api.ok("DELETE", "traces/tr-1/tags", key="a")
    tags = api.ok("GET", f"{THREE}traces/tr-1")["trace"]["trace_info"]["tags"]
    assert ("a" in tags, tags["c"]) == (False, "d")
    assert api.refused("DELETE", f"{THREE}traces/tr-1/tags", key="a")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")


def test_searching_and_deleting(api: Api) -> None:
    for number in range(1, 5):
        record(api, number)
    here = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]

    def search(**body: object) -> list[str]:
        return [each["trace_id"] for each in api.ok("POST", f"{THREE}traces/search", locations=here, **body)["traces"]]

    assert search() == ["tr-4", "tr-3", "tr-2", "tr-1"]
    assert search(filter="execution_time_ms > 2000 and name LIKE 'call%'", order_by=["timestamp_ms ASC"]) == ["tr-2", "tr-3", "tr-4"]
    assert search(filter="run_id = 'run-2'") == ["tr-2"]
    assert search(max_results=1) == ["tr-4"]
    assert api.ok("POST", f"{THREE}traces/delete-traces", experiment_id="0", trace_ids=["tr-4"]) == {"traces_deleted": 1}
    gone = api.ok("POST", "traces/delete-traces", experiment_id="0", max_timestamp_millis=1767400000000, max_traces=1)
    assert gone == {"traces_deleted": 1}
    assert search() == ["tr-3", "tr-2"]
    assert api.refused("GET", f"{THREE}traces/tr-4")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    for wrong in ({}, {"trace_ids": ["x"], "max_timestamp_millis": 1}):
        assert api.refused("POST", "traces/delete-traces", experiment_id="0", **wrong)[0] == 400


def test_what_cannot_be_is_refused(api: Api) -> None:
    assert api.refused("POST", f"{THREE}traces")[:2] == (400, "INVALID_PARAMETER_VALUE")
    good = {"trace_id": "tr-1", "state": "OK"}
    for wrong in ({"trace_id": "../x"}, {"state": "FINE"}, {"request_time": "noon"}, {"execution_duration": "long"}):
        assert api.refused("POST", f"{THREE}traces", trace={"trace_info": {**good, **wrong}})[0] == 400, wrong
