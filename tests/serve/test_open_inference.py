"""The Open Inference Protocol over real HTTP: metadata, tensors as JSON and as raw bytes, and errors in its own form."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from bedplate.serve.fields import Field
from bedplate.serve.gateway import EndpointInfo, Looked, app
from serve.replica import serving

FIELDS = (Field("carrier", "string"), Field("flight", "int"), Field("distance", "float", required=False), Field("cargo", "bool", False))
INFO = EndpointInfo("delay-api", FIELDS, "delay@3", "ab" * 32, "train-1", 1, {"carrier": "UA", "flight": 3})
KEPT: list[Mapping[str, Any]] = []


def looked(requests: Sequence[Mapping[str, Any]]) -> list[Looked]:
    return [Looked(request) for request in requests]


def predict(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [row["flight"] + (row.get("distance") or 0.0) + len(row["carrier"]) for row in rows]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(app(INFO, looked, predict, KEPT.append)) as address:
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
            yield http


def tensor(name: str, datatype: str, data: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data, **more}


CARRIER, FLIGHT = tensor("carrier", "BYTES", ["UA", "AAL"]), tensor("flight", "INT64", [1, 2])


def infer(client: httpx.Client, *inputs: dict[str, Any], **more: Any) -> httpx.Response:
    return client.post("/v2/models/delay/infer", json={"inputs": list(inputs), **more})


def test_health_and_metadata(client: httpx.Client) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/delay/ready").json() == {"name": "delay", "ready": True}
    metadata = client.get("/v2/models/delay/versions/3").json()
    assert metadata == client.get("/v2/models/delay").json()
    assert (metadata["name"], metadata["versions"]) == ("delay", ["3"])
    assert [(each["name"], each["datatype"]) for each in metadata["inputs"]] == [
        ("carrier", "BYTES"),
        ("flight", "INT64"),
        ("distance", "FP64"),
        ("cargo", "BOOL"),
    ]
    assert metadata["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]


def test_tensors_are_answered_row_by_row_and_remembered(client: httpx.Client) -> None:
    KEPT.clear()
    body = infer(client, CARRIER, FLIGHT, tensor("distance", "FP32", [0.5, 0.25]), id="mine").json()
    assert body["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [2], "data": [3.5, 5.25]}]
    assert (body["model_name"], body["model_version"], body["id"]) == ("delay", "3", "mine")
    assert body["parameters"]["answers"] == [record["id"] for record in KEPT]
    assert KEPT[1]["request"] == {"carrier": "AAL", "flight": 2, "distance": 0.25}


def test_the_same_by_version_and_as_a_column_of_rows(client: httpx.Client) -> None:
    column = {**FLIGHT, "shape": [2, 1], "data": [[1], [2]]}
    body = client.post("/v2/models/delay/versions/3/infer", json={"inputs": [CARRIER, column]}).json()
    assert body["outputs"][0]["data"] == [3.0, 5.0]


def raw(request: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(request).encode()
    return head + data, {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}


def test_tensors_as_raw_bytes_both_ways(client: httpx.Client) -> None:
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"UA", b"AAL"))
    flights = struct.pack("<2i", 1, 2)
    distances = struct.pack("<2f", 0.5, float("nan"))  # a tensor has no null
    parts = [("carrier", "BYTES", texts), ("flight", "INT32", flights), ("distance", "FP32", distances)]
    inputs = [{"name": n, "datatype": d, "shape": [2], "parameters": {"binary_data_size": len(b)}} for n, d, b in parts]
    request = {"inputs": inputs, "outputs": [{"name": "prediction", "parameters": {"binary_data": True}}]}
    content, headers = raw(request, texts + flights + distances)
    answer = client.post("/v2/models/delay/infer", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", answer.content[length:]) == (3.5, 5.0)


@pytest.mark.parametrize(
    ("inputs", "status", "says"),
    [
        ([], 400, "is a list of tensors"),
        ([{"name": "flight"}], 400, "lacks its name or datatype"),
        ([CARRIER, tensor("flight", "INT64", [1])], 400, "no common number of rows"),
        ([CARRIER, {**FLIGHT, "shape": [3]}], 400, "does not have its shape"),
        ([CARRIER, {**FLIGHT, "shape": [2, 2]}], 400, "is no column"),
        ([CARRIER, {**FLIGHT, "shape": "two"}], 400, "is no column"),
        ([CARRIER, {**FLIGHT, "parameters": {"binary_data_size": 8}}], 400, "are not there"),
        ([CARRIER], 422, "the request lacks a field"),
        ([CARRIER, FLIGHT, tensor("fligth", "INT64", [1, 2])], 422, "unknown field"),
        ([CARRIER, tensor("flight", "BYTES", ["1", "2"])], 422, "the field 'flight' is no int"),
    ],
)
def test_what_is_no_request_is_told_in_the_protocols_own_form(client: httpx.Client, inputs: list[Any], status: int, says: str) -> None:
    answer = infer(client, *inputs)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("datatype", "data", "says"),
    [
        ("BYTES", b"\xff\x00\x00\x00a", "are no BYTES"),
        ("BYTES", b"\x01\x00\x00\x00\xff", "are no BYTES"),
        ("INT64", b"123", "are no INT64"),
    ],
)
def test_raw_bytes_that_are_no_tensor(client: httpx.Client, datatype: str, data: bytes, says: str) -> None:
    tensors = [{"name": "carrier", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": len(data)}}]
    content, headers = raw({"inputs": tensors}, data)
    answer = client.post("/v2/models/delay/infer", content=content, headers=headers)
    assert (answer.status_code, says in answer.json()["error"]) == (400, True)
    content, headers = raw({"inputs": tensors}, data + b"more")
    assert client.post("/v2/models/delay/infer", content=content, headers=headers).status_code == 400
    headers["Inference-Header-Content-Length"] = "99999"
    assert client.post("/v2/models/delay/infer", content=content, headers=headers).status_code == 400


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/delay/versions/4/infer", "/v2/repository/index"])
def test_other_models_are_not_there(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, "no such route" in answer.json()["error"]) == (404, True)


def test_another_output_is_refused(client: httpx.Client) -> None:
    answer = infer(client, CARRIER, FLIGHT, outputs=[{"name": "logits"}])
    assert (answer.status_code, "no such output" in answer.json()["error"]) == (400, True)
