"""A public port that is given up and taken back while requests go on, and a port of its own that stays."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from http.client import HTTPConnection

import httpx
import pytest

from bedplate.serve.door import Door
from bedplate.serve.listen import bind
from serve.routed import Replica


def test_who_connects_while_the_port_goes_over_to_another_is_answered_by_one_of_both() -> None:
    ready, ports = threading.Event(), list[int]()

    def door(name: str, port: int) -> Door:
        def on_ready(port: int) -> None:
            ports.append(port)
            ready.set()

        return Door(
            Replica(name), bind(port), bind(0), on_ready=on_ready, on_leave=lambda: None, on_last=lambda: None, on_stop=lambda: None
        )

    def serve(one: Door) -> threading.Thread:
        ready.clear()
        threads.append(threading.Thread(target=one.serve_until_stopped))
        threads[-1].start()
        assert ready.wait(30)
        return threads[-1]

    def ask() -> None:
        while not ended.is_set():
            with closing(HTTPConnection("127.0.0.1", ports[0], timeout=30)) as connection:
                try:
                    connection.request("GET", "/")
                    said.append(json.load(connection.getresponse())["by"])
                except OSError as error:
                    said.append(repr(error))

    threads, said, ended = list[threading.Thread](), list[str](), threading.Event()
    first = door("first", 0)
    serve(first)
    second = door("second", ports[0])
    serve(second)
    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(20):
            first.shut()
            first.reopen(bind(ports[0]))
            second.shut()
            second.reopen(bind(ports[0]))
    finally:
        ended.set()
        for thread in asking:
            thread.join()
        for one, thread in zip((first, second), threads, strict=True):
            one.stop()
            thread.join(30)
    assert set(said) == {"first", "second"}


def test_the_public_port_is_shut_and_reopened_and_the_inner_one_stays() -> None:
    ready, said, left = threading.Event(), list[int](), list[str]()

    def on_ready(port: int) -> None:
        said.append(port)
        ready.set()

    inner = bind(0)
    inside = f"http://127.0.0.1:{inner.getsockname()[1]}"
    door = Door(
        Replica("a"),
        bind(0),
        inner,
        on_ready=on_ready,
        on_leave=lambda: left.append("leave"),
        on_last=lambda: left.append("last"),
        on_stop=lambda: left.append("stop"),
    )
    thread = threading.Thread(target=door.serve_until_stopped)
    thread.start()
    try:
        assert ready.wait(30)
        public = f"http://127.0.0.1:{said[0]}"
        with httpx.Client() as kept:
            assert kept.get(public).json()["by"] == httpx.get(inside).json()["by"] == "a"
            door.shut()
            with pytest.raises(httpx.ConnectError):
                httpx.get(public)
            assert kept.get(public).status_code == 200, "a connection that is there is answered on"
            assert httpx.get(inside).status_code == 200
        door.reopen(bind(said[0]))
        assert httpx.get(public).status_code == 200
    finally:
        door.stop()
        thread.join(30)
    assert left == ["leave", "last", "stop"]
    for url in (public, inside):
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
