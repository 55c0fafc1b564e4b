"""A public port that is given up and taken back while requests go on, and a port of its own that stays."""

from __future__ import annotations

import threading

import httpx
import pytest

from bedplate.serve.door import Door
from bedplate.serve.listen import bind
from serve.routed import Replica


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
