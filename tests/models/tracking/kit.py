"""A tracking server for tests: its routes called directly, or served over HTTP in a thread."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.clock import SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bedplate.models.tracking import routes
from bedplate.models.tracking.http import Server
from bedplate.models.tracking.store import Tracking

API = "/api/2.0/mlflow/"


class Api:
    """The routes over a ledger below `state`."""

    def __init__(self, state: Path, guarded: tuple[str, ...] = ()) -> None:
        self.state = state
        self.ledger = Ledger(state / "ledger.db", "flights", SystemClock())
        self.key = Ed25519PrivateKey.generate()
        self.tracking = Tracking(state, self.ledger, "flights", self.key, guarded)

    def call(self, method: str, path: str, /, **body: Any) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of an answer; `path` is below the API of 2.0 unless it begins with a slash."""
        whole = path if path.startswith("/") else API + path
        query = urlencode(body, doseq=True) if method == "GET" else ""
        answer = routes.answer(
            self.tracking, method, whole, query, b"" if method == "GET" else json.dumps(body).encode(), "http://127.0.0.1:1"
        )
        self.tracking.commit()
        assert isinstance(answer.body, bytes)
        return answer.status, json.loads(answer.body)

    def ok(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        """The JSON of an answer that is no error."""
        status, told = self.call(method, path, **body)
        assert status == 200, told
        return told

    def refused(self, method: str, path: str, /, **body: Any) -> tuple[int, str, str]:
        """The status, code and message of an error."""
        status, told = self.call(method, path, **body)
        assert status >= 400, told
        assert set(told) == {"error_code", "message"}
        return status, told["error_code"], told["message"]

    def run(self, experiment: str = "0", **body: Any) -> str:
        """The id of a new run."""
        return str(self.ok("POST", "runs/create", experiment_id=experiment, **body)["run"]["info"]["run_id"])

    def metric(self, run: str, key: str, value: float | str, step: int = 0, at_ms: int = 1000) -> None:
        self.ok("POST", "runs/log-metric", run_id=run, key=key, value=value, step=step, timestamp=at_ms)

    def history(self, run: str, key: str) -> list[tuple[int, int, float]]:
        points = self.ok("GET", "metrics/get-history", run_id=run, metric_key=key).get("metrics", [])
        return [(point["timestamp"], point["step"], float(point["value"])) for point in points]

    def append(self, *drafts: Draft) -> None:
        """What another process appends."""
        other = Ledger(self.state / "ledger.db", "flights", SystemClock())
        other.append(drafts)
        other.close()

    def close(self) -> None:
        self.tracking.close()
        self.ledger.close()


class Client:
    """A kept connection that speaks raw HTTP."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def json(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        status, data = self.call(method, API + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        assert status == 200, data
        return dict(json.loads(data))

    def close(self) -> None:
        self.connection.close()


@contextmanager
def served(state: Path, token: str | None = None) -> Iterator[int]:
    """A server on a free port, with the port."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    ready, box = threading.Event(), dict[str, Any]()

    async def serve() -> None:
        box["loop"], box["ended"] = asyncio.get_running_loop(), asyncio.Event()
        api = Api(state)
        try:
            await Server(api.tracking, f"http://127.0.0.1:{port}", token).serve(sock, ready.set, box["ended"])
        finally:
            api.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield port
    finally:
        box["loop"].call_soon_threadsafe(box["ended"].set)
        thread.join(20)
        assert not thread.is_alive()
