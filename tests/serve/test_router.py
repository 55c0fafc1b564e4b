"""The router: to whom a request goes, what becomes of it when a replica dies, and what two versions answer while one takes over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from bedplate.serve.asgi import loopback_only
from bedplate.serve.listen import bind
from bedplate.serve.router import BEFORE, Backend, Router, Share
from serve.replica import serving
from serve.routed import Dying, Replica, backend, place, routed


def until(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def made(hold: int = 10, deadline_s: float = 20) -> Router:
    return Router("delays", "delay@3", [loopback_only], hold=hold, deadline_s=deadline_s)


@pytest.fixture
def replicas() -> Iterator[list[tuple[Replica, str]]]:
    """Two replicas and their addresses."""
    with ExitStack() as stack:
        both = [Replica("a"), Replica("b")]
        yield [(one, stack.enter_context(serving(one))) for one in both]


@pytest.fixture
def dying() -> Iterator[Dying]:
    one = Dying()
    yield one
    one.close()


def test_a_request_comes_whole_to_a_replica_and_its_answer_back(replicas: list[tuple[Replica, str]]) -> None:
    with routed(made(), [backend(replicas[0][1])]) as (url, _), httpx.Client(base_url=url) as client:
        answer = client.post("/predict?explain=1", content=b'{"id": 1}', headers={"content-type": "application/json"})
        assert answer.json() == {"by": "a", "path": "/predict", "query": "explain=1", "body": '{"id": 1}'}
        assert (answer.status_code, answer.headers["x-said"], answer.headers.get_list("content-length")) == (
            200,
            "yes",
            [str(len(answer.content))],
        )
        replicas[0][0].status = 422
        assert client.post("/predict", content=b"{}").status_code == 422
        assert client.get("/", headers={"host": "evil.example"}).status_code == 421
        with client.stream("GET", "/stream") as streamed:
            assert list(streamed.iter_lines()) == ["data: 0", "", "data: 1", "", "data: 2", ""]
        assert client.get("/", params={"after": "stream"}).json()["query"] == "after=stream"


def test_a_request_goes_where_the_least_is_under_way(replicas: list[tuple[Replica, str]]) -> None:
    (first, _), (second, _) = replicas
    with routed(made(), [backend(url) for _, url in replicas]) as (url, _), ThreadPoolExecutor() as pool:
        first.gate.clear()
        second.gate.clear()
        slow = [pool.submit(httpx.post, f"{url}/predict", content=b"{}", timeout=20) for _ in range(6)]
        until(lambda: first.seen + second.seen == 6)
        assert (first.seen, second.seen) == (3, 3)
        second.gate.set()
        until(lambda: sum(one.done() for one in slow) == 3)
        assert [httpx.post(f"{url}/predict", content=b"{}").json()["by"] for _ in range(4)] == ["b"] * 4
        first.gate.set()
        assert {one.result().status_code for one in slow} == {200}


def test_a_request_whose_replica_died_is_asked_of_another(replicas: list[tuple[Replica, str]], dying: Dying) -> None:
    router = made()
    with routed(router, [backend(f":{dying.port}"), backend(replicas[0][1])]) as (url, _):
        answers = [httpx.post(f"{url}/predict", content=b"{}") for _ in range(8)]
        assert {answer.json()["by"] for answer in answers} == {"a"}
        assert router.repeated == dying.seen > 0


def test_what_must_not_be_asked_twice_is_told_once_to_ask_again(dying: Dying) -> None:
    with routed(made(), [backend(f":{dying.port}")]) as (url, _):
        answer = httpx.post(f"{url}/v1/chat/completions", content=b"{}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["what"] == "the replica ended before it answered"
        assert dying.seen == 1


def test_requests_are_held_until_a_replica_answers_so_many_and_no_more(replicas: list[tuple[Replica, str]]) -> None:
    router = made(hold=2)
    with routed(router) as (url, door), ThreadPoolExecutor() as pool:
        held = [pool.submit(httpx.post, f"{url}/predict", content=b"{}", timeout=20) for _ in range(2)]
        until(lambda: router.held == 2)
        refused = httpx.post(f"{url}/predict", content=b"{}")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert router.asked_at_s is not None
        place(door, router, [backend(replicas[0][1])])
        assert [one.result().json()["by"] for one in held] == ["a", "a"]
        assert (router.held, router.refused) == (0, 1)


def test_who_is_held_too_long_is_told_so(replicas: list[tuple[Replica, str]]) -> None:
    with routed(made(deadline_s=0.2)) as (url, _):
        answer = httpx.post(f"{url}/predict", content=b"{}")
        assert (answer.status_code, answer.json()["error"]["what"]) == (503, "no replica answered in time")
        assert "retry-after" in answer.headers


def test_a_replica_that_cannot_be_reached_is_left_alone_until_it_is_placed_again(replicas: list[tuple[Replica, str]]) -> None:
    with bind(0) as free:
        port = free.getsockname()[1]
    router, lost = made(), Backend("lost", "own", backend(f":{port}").upstream)
    with routed(router, [lost, backend(replicas[0][1])]) as (url, _):
        for _ in range(10):
            assert httpx.post(f"{url}/predict", content=b"{}").json()["by"] == "a"
        assert lost.suspect
        assert router.repeated == 1


def test_a_client_that_goes_away_ends_its_request_at_the_replica(replicas: list[tuple[Replica, str]]) -> None:
    (first, address), _ = replicas
    router = made()
    with routed(router, [backend(address)]) as (url, _):
        first.gate.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/predict", content=b"{}", timeout=0.3)
        until(lambda: first.left == 1 and router.under_way == 0)
        first.gate.set()
        assert httpx.post(f"{url}/predict", content=b"{}").status_code == 200
        assert router.total["own"].requests == 1, "who left is not counted"


def versions(replicas: list[tuple[Replica, str]]) -> list[Backend]:
    """`a` is the new version, `b` the one before."""
    return [backend(replicas[0][1]), backend(replicas[1][1], BEFORE)]


def test_a_canary_answers_its_share(replicas: list[tuple[Replica, str]]) -> None:
    router = made()
    router.share = Share(0.25)
    with routed(router, versions(replicas)) as (url, _), httpx.Client(base_url=url) as client:
        said = [client.post("/predict", content=b"{}").json()["by"] for _ in range(400)]
        assert 60 < said.count("a") < 145  # 100 and 5 standard deviations of 8.7
        assert router.total["own"].requests == said.count("a")
        assert router.step.requests == said.count("a")


def test_what_a_canary_fails_at_the_version_before_answers(replicas: list[tuple[Replica, str]]) -> None:
    router = made()
    router.share = Share(0.5)
    replicas[0][0].status = 500
    with routed(router, versions(replicas)) as (url, _), httpx.Client(base_url=url) as client:
        assert {client.post("/predict", content=b"{}").json()["by"] for _ in range(40)} == {"b"}
        assert router.step.errors == router.step.requests == replicas[0][0].seen > 0
        replicas[0][0].status = 503
        assert 503 in {client.post("/predict", content=b"{}").status_code for _ in range(40)}, "busy is no failure"
        assert router.step.errors < router.step.requests


def test_a_shadow_is_asked_and_never_answers(replicas: list[tuple[Replica, str]]) -> None:
    (shadow, _), (before, _) = replicas
    router = made()
    router.share = Share(0.0, shadow=True)
    shadow.status = 500
    with routed(router, versions(replicas)) as (url, _), httpx.Client(base_url=url) as client:
        assert {client.post("/predict", content=b"{}").json()["by"] for _ in range(20)} == {"b"}
        until(lambda: router.step.requests == 20)
        assert (shadow.seen, before.seen, router.step.errors) == (20, 20, 20)


def test_the_version_before_answers_when_the_new_one_is_gone(replicas: list[tuple[Replica, str]]) -> None:
    router = made()
    router.share = Share(1.0)
    with routed(router, [versions(replicas)[1]]) as (url, _):
        assert httpx.post(f"{url}/predict", content=b"{}").json()["by"] == "b"


def test_metrics_say_what_was_counted(replicas: list[tuple[Replica, str]]) -> None:
    router = made()
    router.replicas_wanted = 3
    with routed(router, [backend(replicas[0][1])]) as (url, _), httpx.Client(base_url=url) as client:
        for _ in range(5):
            client.post("/predict", content=b"{}")
        answer = client.get("/metrics")
        lines = answer.text.splitlines()
        own = 'endpoint="delays",model="delay@3"'
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert f'bedplate_endpoint_requests_total{{{own},side="own"}} 5' in lines
        assert f'bedplate_endpoint_latency_seconds_count{{{own},side="own"}} 5' in lines
        assert f"bedplate_endpoint_replicas{{{own}}} 1" in lines
        assert f"bedplate_endpoint_replicas_wanted{{{own}}} 3" in lines


def test_the_mean_of_what_is_under_way_is_that_of_its_window() -> None:
    router = made()
    router.under_way = 8
    router.observe(10.0)
    router.under_way = 2
    router.observe(20.0)
    router.observe(21.0)
    assert router.mean_in_flight(0.0) == 4.0
    assert router.mean_in_flight(15.0) == 2.0
    assert router.mean_in_flight(30.0) == 2.0


def test_many_requests_at_once_are_all_answered_while_replicas_come_and_go(replicas: list[tuple[Replica, str]]) -> None:
    router = made(hold=200)
    ended = threading.Event()
    with routed(router) as (url, door), ThreadPoolExecutor(9) as pool:

        def change() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                place(door, router, [[], [backend(replicas[0][1])], [backend(replicas[1][1])]][number % 3])
                time.sleep(0.01)

        def ask() -> list[int]:
            with httpx.Client(base_url=url, timeout=20) as client:
                return [client.post("/predict", content=b"{}").status_code for _ in range(25)]

        changing = pool.submit(change)
        statuses = [status for asked in [pool.submit(ask) for _ in range(8)] for status in asked.result()]
        ended.set()
        changing.result()
    assert set(statuses) == {200}
    assert (router.under_way, router.held) == (0, 0)
