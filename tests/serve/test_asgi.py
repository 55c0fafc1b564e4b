"""HTTP by hand: the parts of a request and an answer that a well-behaved client never shows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from bedplate.serve.asgi import Application, Call, Refused, Route, loopback_only
from serve.replica import serving

GONE = threading.Event()


async def echo(call: Call) -> None:
    await call.reply_json({"body": len(await call.body(100)), "caller": call.caller, "kind": call.header(b"x-kind")})


async def pieces(call: Call) -> None:
    await call.begin(b"text/event-stream")
    for number in range(3):
        await call.piece(b"%d\n" % number)
    await call.piece(b"", more=False)


async def half(call: Call) -> None:
    await call.begin(b"text/plain")
    await call.piece(b"half")
    raise Refused(500, "the rest is not there", fix="ask again")


async def waits(call: Call) -> None:
    await call.body()
    await call.gone()
    GONE.set()


async def breaks(call: Call) -> None:
    raise RuntimeError("the secret is 42")


def named(refused: Refused) -> object:
    return {"message": refused.what}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    table = {"/pieces": pieces, "/half": half, "/waits": waits, "/breaks": breaks}
    routes = [Route("/echo", {"POST": echo, "GET": echo}), *(Route(path, {"GET": handler}) for path, handler in table.items())]
    routes.append(Route("/named/breaks", {"GET": breaks}, errors=named))
    with serving(Application(routes, [loopback_only], {"/named": named})) as address:
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
            yield http


def test_a_request_is_read_whole_and_no_further_than_its_limit(client: httpx.Client) -> None:
    answer = client.post("/echo", content=(b"x" * 10 for _ in range(10)), headers={"X-Kind": "odd"})
    assert answer.json() == {"body": 100, "caller": "anybody", "kind": "odd"}
    assert client.post("/echo", content=b"x" * 101).status_code == 413
    assert client.get("/echo").json() == {"body": 0, "caller": "anybody", "kind": ""}


def test_an_answer_may_come_in_pieces(client: httpx.Client) -> None:
    answer = client.get("/pieces")
    assert (answer.text, answer.headers["content-type"], answer.headers["cache-control"]) == ("0\n1\n2\n", "text/event-stream", "no-store")


@pytest.mark.filterwarnings("ignore")
def test_half_an_answer_is_not_taken_for_a_whole_one(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/half")
    assert client.get("/echo").status_code == 200


def test_a_wrong_method_names_the_right_ones(client: httpx.Client) -> None:
    answer = client.put("/echo")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, GET")


def test_each_protocol_has_its_own_form_of_errors(client: httpx.Client) -> None:
    assert client.get("/named/breaks").json() == {"message": "the endpoint could not answer"}
    assert client.get("/named/nothing").json() == {"message": "no such route"}
    assert sorted(client.get("/nothing").json()["error"]) == ["fix", "value", "what"]
    assert "42" not in client.get("/breaks").text


def test_a_client_that_goes_away_is_noticed(client: httpx.Client) -> None:
    place = urlsplit(str(client.base_url))
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(b"GET /waits HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.get("/echo").status_code == 200
    assert GONE.wait(30)


def test_two_host_names_are_none(client: httpx.Client) -> None:
    place = urlsplit(str(client.base_url))
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        assert b" 421 " in b"".join(iter(lambda: connection.recv(4096), b"")).split(b"\r\n")[0]
