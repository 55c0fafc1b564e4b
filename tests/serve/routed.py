"""What the tests of routing share: a router served in a thread, and a replica of a few lines that can be told to misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bedplate.serve.door import Door
from bedplate.serve.listen import bind
from bedplate.serve.router import OWN, Backend, Router
from bedplate.serve.upstream import Upstream


class Replica:
    """An ASGI application that says its name. `status`, `gate` and `breaks` change what becomes of a request; `seen` counts them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.breaks = 0
        self.seen = 0
        self.left = 0
        self.gate = threading.Event()
        self.gate.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.seen += 1
        while not self.gate.is_set():
            try:
                message = await asyncio.wait_for(receive(), 0.02)
            except TimeoutError:
                continue
            self.left += message["type"] == "http.disconnect"
            return
        if self.breaks:
            self.breaks -= 1
            raise ConnectionError  # half an answer, or none: uvicorn ends the connection
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
            for number in range(3):
                await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        said = json.dumps({"by": self.name, "path": scope["path"], "query": scope["query_string"].decode(), "body": body.decode()}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said)), (b"x-said", b"yes")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": said})


class Dying:
    """A port that takes a request and closes the connection without a word, as a replica does that is killed."""

    def __init__(self) -> None:
        self.seen = 0
        self._socket = bind(0)
        self._socket.listen()
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.seen += bool(connection.recv(65536))
            connection.close()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def routed(router: Router, backends: Sequence[Backend] = ()) -> Iterator[tuple[str, Door]]:
    """The address of a router with these replicas, and its door."""
    ready, ports = threading.Event(), list[int]()

    def on_ready(port: int) -> None:
        router.place(backends)
        ports.append(port)
        ready.set()

    door = Door(router, bind(0), bind(0), on_ready=on_ready, on_leave=lambda: None, on_last=router.close, on_stop=lambda: None)
    thread = threading.Thread(target=door.serve_until_stopped)
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{ports[0]}", door
    finally:
        door.stop()
        thread.join(30)
        assert not thread.is_alive()


def place(door: Door, router: Router, backends: Sequence[Backend]) -> None:
    """Place replicas, as the thread that keeps them does, and wait until it is done."""
    done = threading.Event()
    door.loop.call_soon_threadsafe(lambda: (router.place(backends), done.set()))
    assert done.wait(10)


def backend(url: str, side: str = OWN) -> Backend:
    return Backend(url, side, Upstream(int(url.rpartition(":")[2])))
