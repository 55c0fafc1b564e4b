"""HTTP: requests in any pieces, answers in order, and nobody served who should not be."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.models.tracking.http import MAX_BODY_BYTES, parse_head
from bedplate.models.tracking.refusal import Refused
from models.tracking.kit import API, Client, served

FILES = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with served(tmp_path / "state") as found:
        yield found


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    made = Client(port)
    yield made
    made.close()


def raw(port: int, *pieces: bytes) -> bytes:
    """All that the server sends for these bytes, until it hangs up or is silent for long."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        found = b""
        while block := sock.recv(65536):
            found += block
    return found


def test_one_connection_takes_many_requests(client: Client) -> None:
    run = client.json("POST", "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    for step in range(50):
        assert client.json("POST", "runs/log-metric", run_id=run, key="m", value=step, timestamp=1, step=step) == {}
    status, data = client.call("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m")
    assert (status, len(json.loads(data)["metrics"])) == (200, 50)
    assert client.call("GET", "/health") == (200, b"OK")
    assert client.call("GET", "/api/2.0/mlflow/none")[0] == 404
    assert client.call("GET", f"{API}runs/get?run_id={run}")[0] == 200, "the connection is still good"


def test_an_upload_streams_and_a_download_is_the_same_bytes(client: Client) -> None:
    data = bytes(range(256)) * 20_000
    assert client.call("PUT", f"{FILES}/0/r/artifacts/big%20file.bin", data) == (200, b"{}")
    assert client.call("GET", f"{FILES}/0/r/artifacts/big%20file.bin") == (200, data)
    client.connection.request(
        "PUT", f"{FILES}/0/r/artifacts/parts.bin", iter([b"one", b"two"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert client.connection.getresponse().read() == b"{}"
    assert client.call("GET", f"{FILES}/0/r/artifacts/parts.bin") == (200, b"onetwo")
    assert client.call("PUT", f"{FILES}/0/r/artifacts/empty", b"") == (200, b"{}")
    assert client.call("GET", f"{FILES}/0/r/artifacts/empty") == (200, b"")


@pytest.mark.parametrize("path", ["0/%2e%2e/%2e%2e/x", "..%2fx", "0/..%2f..%2fx", "%2fetc/passwd", "0/%00", "0/%ff"])
def test_an_encoded_path_that_leads_out_is_refused_and_the_connection_goes_on(client: Client, path: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    try:
        status, data = client.call("PUT", f"{FILES}/{path}", b"payload")
    except http.client.HTTPException:
        pytest.fail("no answer")
    assert status == 400
    assert b"error_code" in data
    made = [each for each in set(tmp_path.rglob("*")) - set(before) if each.is_file() and each.read_bytes() == b"payload"]
    assert made == []


def test_an_upload_that_breaks_off_leaves_nothing(port: int, client: Client, tmp_path: Path) -> None:
    raw(port, f"PUT {FILES}/0/r/artifacts/half.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nonly this".encode())
    assert client.call("GET", f"{FILES}/0/r/artifacts/half.bin")[0] == 404
    status, data = client.call("GET", f"{FILES}?path=0/r/artifacts")
    assert (status, json.loads(data)) == (200, {"files": []})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:5000"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:5000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost:5000", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:5000", "Origin": "null"}, 403),
        ({"Host": "localhost:5000", "Origin": "http://localhost:8080"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_web_pages_of_other_sites_are_refused(client: Client, headers: dict[str, str], status: int) -> None:
    body = b'{"name": "from a page"}'
    assert client.call("GET", f"{API}experiments/get?experiment_id=0", headers=headers)[0] == status
    assert client.call("POST", f"{API}experiments/create", body, headers)[0] == status
    assert client.call("PUT", f"{FILES}/0/x", body, headers)[0] == status
    found = client.call("GET", f"{API}experiments/get-by-name?experiment_name=from%20a%20page")[0]
    assert found == (200 if status == 200 else 404)


def test_with_a_token_only_who_has_it_is_answered(tmp_path: Path) -> None:
    import base64

    with served(tmp_path / "state", token="a token of some length") as port:
        client = Client(port)
        basic = base64.b64encode(b"ada:a token of some length").decode()
        for authorization, status in (
            ("", 401),
            ("Bearer wrong", 401),
            ("Basic !!", 401),
            ("Bearer a token of some length", 200),
            (f"Basic {basic}", 200),
        ):
            headers = {"Host": "tracking.example", **({"Authorization": authorization} if authorization else {})}
            assert client.call("GET", f"{API}experiments/get?experiment_id=0", headers=headers)[0] == status, authorization
        client.close()


REQUEST = (
    f"POST {API}experiments/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n".encode()
    + b'{"max_results": 10}'
    + f"POST {API}experiments/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    + b'4;x=y\r\n{"ma\r\nF\r\nx_results": 10}\r\n0\r\nTrailer: x\r\n\r\n'
    + f"GET {API}experiments/get?experiment_id=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("steady") / "state") as found:
        yield found


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, len(REQUEST) - 1), max_size=6))
def test_requests_in_any_pieces_are_answered_in_order(steady: int, cuts: list[int]) -> None:
    places = [0, *sorted(set(cuts)), len(REQUEST)]
    told = raw(steady, *(REQUEST[start:end] for start, end in pairwise(places)))
    assert told.count(b"HTTP/1.1 200 OK") == 3, told
    assert told.count(b'{"experiments":') == 2
    assert told.rindex(b'{"experiment":') > told.rindex(b'{"experiments":')


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_can_be_read_in_two_ways_or_none_ends_the_connection(steady: int, request_: bytes) -> None:
    told = raw(steady, request_)
    assert told.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")), told[:100]
    assert told.count(b"HTTP/1.1") == 1
    assert b"Connection: close" in told


def test_bodies_are_bounded(client: Client) -> None:
    status, data = client.call("POST", f"{API}runs/log-batch", b"", {"Content-Length": str(MAX_BODY_BYTES + 1)})
    assert (status, b"larger" in data) == (413, True)


@given(st.binary(max_size=200))
def test_any_head_is_read_or_refused(data: bytes) -> None:
    try:
        head = parse_head(data)
    except Refused as refused:
        assert refused.status == 400
    else:
        assert head.method


def test_clients_in_parallel_lose_nothing(port: int) -> None:
    first = Client(port)
    run = first.json("POST", "runs/create", experiment_id="0")["run"]["info"]["run_id"]
    failures: list[BaseException] = []

    def work(name: str) -> None:
        client = Client(port)
        try:
            for step in range(100):
                client.json("POST", "runs/log-metric", run_id=run, key=name, value=step, timestamp=step, step=step)
                if step % 25 == 0:
                    client.json("POST", "runs/log-parameter", run_id=run, key=f"{name}-{step}", value="x")
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=(f"m{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    told = first.call("GET", f"{API}runs/get?run_id={run}")[1]
    data = json.loads(told)["run"]["data"]
    assert len(data["params"]) == 16
    assert {metric["key"]: metric["step"] for metric in data["metrics"]} == {f"m{number}": 99 for number in range(4)}
    for number in range(4):
        points = json.loads(first.call("GET", f"{API}metrics/get-history?run_id={run}&metric_key=m{number}")[1])["metrics"]
        assert [point["step"] for point in points] == list(range(100))
    first.close()
