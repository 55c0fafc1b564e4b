"""The description of an endpoint: true to its fields and routes, and a page that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from bedplate.serve.fields import Field
from bedplate.serve.gateway import EndpointInfo, Looked, app
from serve.replica import serving

EXAMPLE = {"shop": "<b>s1</b>", "size": 2.5}
INFO = EndpointInfo("prices", (Field("shop", "string"), Field("size", "float", required=False)), "price@7", "ab" * 32, "fit-1", 1, EXAMPLE)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    inner = app(INFO, lambda requests: [Looked(request) for request in requests], lambda rows: [1.5] * len(rows), lambda record: None)
    with serving(inner) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
        yield http


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def test_every_route_that_is_described_is_there_and_every_method(client: httpx.Client, document: dict[str, Any]) -> None:
    assert (document["openapi"], document["info"]["title"], document["info"]["version"]) == ("3.1.0", "prices", "7")
    assert "/v2/models/price/infer" in document["paths"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"]
            assert client.request(method.upper(), path).status_code not in (404, 405)


def test_an_instance_and_its_answer_are_of_the_described_form(client: httpx.Client, document: dict[str, Any]) -> None:
    operation = document["paths"]["/predict"]["post"]
    asked = resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    given = resolved(document, operation["responses"]["200"]["content"]["application/json"]["schema"])
    for request in (EXAMPLE, {"shop": "s2", "size": None}, {"instances": [EXAMPLE, {"shop": "s3"}]}):
        asked.validate(request)
        answer = client.post("/predict", json=request)
        assert answer.status_code == 200
        given.validate(answer.json())
    for wrong in ({}, {"shop": 1}, {"shop": "s1", "prize": 2}, {"instances": []}):
        with pytest.raises(ValidationError):
            asked.validate(wrong)
        refused = client.post("/predict", json=wrong)
        described = operation["responses"][str(refused.status_code)]["content"]["application/json"]["schema"]
        resolved(document, described).validate(refused.json())


def test_the_page_loads_nothing_and_runs_nothing(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "POST /predict" in page.text and "price@7" in page.text
    for word in ("<script", "src=", "http://", "https://", "<b>s1"):
        assert word not in page.text
