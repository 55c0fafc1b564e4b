"""The gateway over real HTTP: what is answered, what is remembered, and how everything else is refused."""

from __future__ import annotations

import json
import math
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.clock import SimClock
from bedplate.core.errors import DataError, JobError, NotFound
from bedplate.serve.asgi import MAX_BODY_BYTES
from bedplate.serve.batching import Limits
from bedplate.serve.fields import Field
from bedplate.serve.gateway import MAX_INSTANCES, EndpointInfo, Looked, answer_id, app
from serve.replica import serving

INFO = EndpointInfo(
    name="delay-api",
    fields=(
        Field("carrier", "string"),
        Field("flight", "int"),
        Field("time_hour", "timestamp"),
        Field("distance", "float", required=False),
        Field("cargo", "bool", required=False),
    ),
    model="delay@3",
    digest="ab" * 32,
    run="train_delay-4",
    attempt=2,
    example={"carrier": "UA", "flight": 1545, "time_hour": "2013-01-31T05:00:00Z"},
)
ASKED = {"carrier": "UA", "flight": 1545, "time_hour": "2013-01-31T05:00:00Z"}
NOW_S = 1_700_000_000.5


class Replica:
    """An endpoint with a lookup and a model that are plain Python, and what it remembered."""

    def __init__(self) -> None:
        self.answers: list[Mapping[str, Any]] = []
        self.failure: Exception | None = None
        self.health: dict[str, int] = {"written": 0, "lost": 0}
        self.app = app(INFO, self.lookup, self.predict, self.answers.append, lambda: self.health, SimClock(NOW_S))

    def lookup(self, requests: Sequence[Mapping[str, Any]]) -> list[Looked]:
        return [self.looked(request) for request in requests]

    def looked(self, request: Mapping[str, Any]) -> Looked:
        if request["carrier"] == "??":
            raise NotFound("no such carrier", value=request["carrier"], fix="known: UA, B6")
        if request["carrier"] == "!!":
            raise DataError("the carrier is not a word", value=request["carrier"])
        row = {"flight": request["flight"], "gain": numpy.float32(2.5), "unknown": math.nan, "at": numpy.datetime64("2013-01-31")}
        return Looked(row, {"route_gain": "route_gain@7"}, NOW_S - 60)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        if self.failure is not None:
            raise self.failure
        return [row["flight"] / 2 for row in rows]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Replica, httpx.Client]]:
    made = Replica()
    with serving(made.app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
        yield made, http


@pytest.fixture
def replica(served: tuple[Replica, httpx.Client]) -> Replica:
    served[0].answers.clear()
    served[0].failure = None
    return served[0]


@pytest.fixture
def client(replica: Replica, served: tuple[Replica, httpx.Client]) -> httpx.Client:
    return served[1]


def test_a_request_is_answered_with_the_model_that_did(client: httpx.Client) -> None:
    answer = client.post("/predict", json=ASKED)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert {name: body[name] for name in ("prediction", "model")} == {"prediction": 772.5, "model": "delay@3"}
    assert uuid.UUID(body["id"]).version == 7


def test_what_was_answered_is_remembered_with_its_origin(client: httpx.Client, replica: Replica) -> None:
    body = client.post("/predict", json=ASKED).json()
    (record,) = json.loads(json.dumps(replica.answers, allow_nan=False))
    assert record.pop("latency_s") >= 0
    assert record == {
        "id": body["id"],
        "at": NOW_S,
        "endpoint": "delay-api",
        "request": ASKED,
        "features": {"flight": 1545, "gain": 2.5, "unknown": None, "at": "2013-01-31"},
        "versions": {"route_gain": "route_gain@7"},
        "as_of": NOW_S - 60,
        "prediction": 772.5,
        "model": "delay@3",
        "digest": "ab" * 32,
        "run": "train_delay-4",
        "attempt": 2,
    }


def test_many_instances_are_answered_in_order_and_remembered_one_by_one(client: httpx.Client, replica: Replica) -> None:
    instances = [{**ASKED, "flight": flight} for flight in (10, 30, 20)]
    body = client.post("/predict", json={"instances": instances}).json()
    assert body["predictions"] == [5.0, 15.0, 10.0]
    assert body["model"] == "delay@3"
    assert [record["id"] for record in replica.answers] == body["ids"]
    assert [record["prediction"] for record in replica.answers] == body["predictions"]
    assert len(set(body["ids"])) == 3


def test_optional_fields_may_be_absent_or_null(client: httpx.Client) -> None:
    for extra in ({}, {"distance": None, "cargo": None}, {"distance": 1400, "cargo": True}, {"distance": 1400.5, "cargo": False}):
        assert client.post("/predict", json={**ASKED, **extra}).status_code == 200


def test_health_and_description(client: httpx.Client, replica: Replica) -> None:
    replica.health = {"written": 5, "lost": 2}
    assert client.get("/health").json() == {
        "status": "ready",
        "model": "delay@3",
        "waiting": 0,
        "answers": {"written": 5, "lost": 2},
    }
    description = client.get("/").json()
    assert description["fields"]["carrier"] == "string"
    assert description["fields"]["distance"] == "float, may be null"
    assert client.post("/predict", json=description["example"]).status_code == 200


def test_metrics_count_what_was_posted_and_how_it_ended(client: httpx.Client, replica: Replica) -> None:
    def told() -> dict[str, float]:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        return {name.replace(own, ""): float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    model = client.get("/health").json()["model"]
    own = f'endpoint="{client.get("/").json()["endpoint"]}",model="{model}"'
    before = told()
    client.post("/predict", json=ASKED)
    client.post("/predict", json={"nothing": 1})
    client.get("/health")
    after = told()
    side = '{,side="own"}'
    assert after[f"bedplate_endpoint_requests_total{side}"] == before[f"bedplate_endpoint_requests_total{side}"] + 2
    assert after[f"bedplate_endpoint_latency_seconds_count{side}"] == before[f"bedplate_endpoint_latency_seconds_count{side}"] + 2
    assert after[f"bedplate_endpoint_errors_total{side}"] == before[f"bedplate_endpoint_errors_total{side}"]
    assert (after["bedplate_endpoint_requests_in_flight{}"], after["bedplate_endpoint_replicas{}"]) == (0, 1)


def refusal(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    body = answer.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["fix", "value", "what"]
    assert body["error"]["fix"]
    return answer.status_code, body["error"]


@pytest.mark.parametrize(
    ("change", "what", "value"),
    [
        ({"carrier": None}, "the request lacks a field", "carrier"),
        ({"flght": 3}, "the request has an unknown field", "flght"),
        ({"flight": "1545"}, "the field 'flight' is no int", "1545"),
        ({"flight": 1545.0}, "the field 'flight' is no int", 1545.0),
        ({"flight": True}, "the field 'flight' is no int", True),
        ({"flight": 2**63}, "the field 'flight' is no int", 2**63),
        ({"carrier": 5}, "the field 'carrier' is no string", 5),
        ({"carrier": ["UA"]}, "the field 'carrier' is no string", "list"),
        ({"time_hour": "yesterday"}, "the field 'time_hour' is no timestamp", "yesterday"),
        ({"time_hour": "0001-01-01T00:00:00+14:00"}, "the field 'time_hour' is no timestamp", "0001-01-01T00:00:00+14:00"),
        ({"distance": "far"}, "the field 'distance' is no float", "far"),
        ({"distance": 10**400}, "the field 'distance' is no float", "1" + "0" * 199 + "…"),
        ({"cargo": 1}, "the field 'cargo' is no bool", 1),
    ],
)
def test_a_field_that_does_not_fit_is_shown_with_the_fix(
    client: httpx.Client, replica: Replica, change: dict[str, Any], what: str, value: Any
) -> None:
    status, error = refusal(client.post("/predict", json={**ASKED, **change}))
    assert (status, error["what"], error["value"]) == (422, what, value)
    assert replica.answers == []


def test_an_unknown_field_names_the_nearest(client: httpx.Client) -> None:
    assert "'flight'" in refusal(client.post("/predict", json={**ASKED, "flght": 3}))[1]["fix"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"5", 400),
        (b"\xff\xfe", 400),
        (b'{"flight": NaN}', 400),
        (b"[" * 5000, 400),
        (b'{"flight": ' + b"9" * 5000 + b"}", 400),
        (b'{"carrier": "UA", "flight": 1, "time_hour": "2013-01-31", "distance": 1e999}', 422),
        (b'{"carrier": "\\ud800", "flight": 1, "time_hour": "2013-01-31"}', 422),
        (b'{"\\ud800": 1}', 422),
        (b'{"instances": []}', 413),
        (b'{"instances": {}}', 400),
        (b'{"instances": [1]}', 400),
        (b'{"instances": [{}], "carrier": "UA"}', 400),
        (b'{"instances": [' + b"{}," * MAX_INSTANCES + b"{}]}", 413),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(client: httpx.Client, replica: Replica, content: bytes, status: int) -> None:
    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json; charset=utf-8"})
    assert refusal(answer)[0] == status
    assert replica.answers == []
    assert client.post("/predict", json=ASKED).status_code == 200


def test_a_body_without_a_length_is_limited_too(client: httpx.Client) -> None:
    blocks = (b" " * 65536 for _ in range(MAX_BODY_BYTES // 65536 + 1))
    assert refusal(client.post("/predict", content=blocks, headers={"Content-Type": "application/json"}))[0] == 413


@pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_taken_so_that_no_web_page_can_ask(client: httpx.Client, declared: str) -> None:
    headers = {"Content-Type": declared} if declared else {}
    assert refusal(client.post("/predict", content=json.dumps(ASKED), headers=headers))[0] == 415


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "127.0.0.1:80:90"])
def test_another_host_name_is_refused(client: httpx.Client, host: str) -> None:
    assert refusal(client.get("/health", headers={"Host": host}))[0] == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9999", "127.0.0.1", "[::1]:80", "[::1]"])
def test_loopback_names_are_taken(client: httpx.Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/predict", 405),
        ("DELETE", "/", 405),
        ("POST", "/predict/", 404),
        ("GET", "/admin", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/health/", 404),
    ],
)
def test_everything_else_is_denied(client: httpx.Client, method: str, path: str, status: int) -> None:
    assert refusal(client.request(method, path))[0] == status


@pytest.mark.parametrize(("carrier", "status", "what"), [("??", 404, "no such carrier"), ("!!", 422, "the carrier is not a word")])
def test_a_lookup_says_what_it_cannot_answer(client: httpx.Client, replica: Replica, carrier: str, status: int, what: str) -> None:
    found = refusal(client.post("/predict", json={**ASKED, "carrier": carrier}))
    assert (found[0], found[1]["what"], found[1]["value"]) == (status, what, carrier)
    assert replica.answers == []


@pytest.mark.parametrize("failure", [RuntimeError("the secret is 42"), JobError("predict failed", value="the secret is 42")])
def test_a_failure_inside_leaks_nothing_but_an_id_that_is_in_the_log(
    client: httpx.Client, replica: Replica, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    replica.failure = failure
    status, error = refusal(client.post("/predict", json=ASKED))
    assert status == 500
    assert "secret" not in json.dumps(error)
    assert any(error["value"] in message and "the secret is 42" in message for message in caplog.messages)
    replica.failure = None
    assert client.post("/predict", json=ASKED).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_no_json_makes_it_fail(client: httpx.Client, replica: Replica) -> None:
    @settings(max_examples=100, deadline=None)
    @given(value=JSON, name=st.sampled_from([*ASKED, "distance", "cargo", "instances"]))
    def ask(value: Any, name: str) -> None:
        for body in (value, {**ASKED, name: value}):
            answer = client.post("/predict", content=json.dumps(body), headers={"Content-Type": "application/json"})
            assert answer.status_code in (200, 400, 413, 422)
            assert answer.status_code == 200 or refusal(answer)

    ask()


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_ids_are_uuids_that_sort_by_time(one_s: float, other_s: float) -> None:
    one, other = answer_id(one_s), answer_id(other_s)
    assert len(one) == 36
    assert (uuid.UUID(one).version, uuid.UUID(one).variant) == (7, uuid.RFC_4122)
    assert int(one.replace("-", "")[:12], 16) == int(one_s * 4_096_000) // 4096
    if abs(one_s - other_s) > 1e-5:
        assert (one < other) == (one_s < other_s)


def test_ids_of_one_instant_differ() -> None:

    assert len({answer_id(NOW_S) for _ in range(1000)}) == 1000


class Slow:
    """A replica whose model waits at a gate."""

    def __init__(self, limits: Limits) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.answers: list[Mapping[str, Any]] = []
        self.app = app(INFO, lambda asked: [Looked(each) for each in asked], self.predict, self.answers.append, limits=limits)

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        self.entered.set()
        assert self.gate.wait(30)
        return [1.0] * len(rows)


def test_a_slow_model_blocks_nothing_and_a_full_line_says_when_to_come_again() -> None:
    slow = Slow(Limits(size=1, queue=2))
    with serving(slow.app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
        with ThreadPoolExecutor(8) as pool:
            first = pool.submit(http.post, "/predict", json=ASKED)
            assert slow.entered.wait(30)
            waiting = [pool.submit(http.post, "/predict", json=ASKED) for _ in range(2)]
            while http.get("/health").json()["waiting"] < 2:  # health answers while the model does not
                pass
            refused = http.post("/predict", json=ASKED)
            assert refusal(refused)[0] == 503
            assert int(refused.headers["retry-after"]) >= 1
            slow.gate.set()
            assert [each.result().status_code for each in (first, *waiting)] == [200, 200, 200]
    assert len(slow.answers) == 3


def test_a_deadline_is_told_once_and_a_late_answer_is_not_remembered() -> None:
    slow = Slow(Limits(deadline_s=0.05))
    with serving(slow.app) as address, httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
        late = http.post("/predict", json=ASKED)
        assert (refusal(late)[0], late.json()["error"]["value"]) == (504, 0.05)
        slow.gate.set()
        assert slow.answers == []
