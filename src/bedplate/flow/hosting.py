"""The server of a project: the loop, and on one port the tracking server, in a thread of its own with its own view of the ledger.

The address is written into the state folder (`server.json`), and asked for again the next time, so that a client's setting stays right.
Does not know: what a route answers, or what the loop does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.atomic import write_json
from bedplate.core.errors import BedplateError, Busy
from bedplate.core.heads import signing_key
from bedplate.core.ledger import Ledger
from bedplate.flow.drive import serve_loop
from bedplate.flow.workspace import Workspace
from bedplate.models.tracking.http import Server
from bedplate.models.tracking.store import Tracking

ADDRESS_FILE = "server.json"
LOOPBACK = "127.0.0.1"
MIN_TOKEN_CHARS = 16
START_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where to listen. `port` 0: the one of the last time, if it is free, else any. `token_file` holds what clients must send."""

    host: str = LOOPBACK
    port: int = 0
    token_file: Path | None = None


def serve_project(workspace: Workspace, place: Place, wanted: Callable[[], bool], begun: Callable[[str], None]) -> None:
    """Host the loop and the tracking server while `wanted()` says so; `begun` is told the address once both are there.

    Raises Busy when the port or the points are somebody else's, BedplateError for a place that must not be listened on, and what
    `serve_loop` raises.
    """
    token = _token(place)
    with ExitStack() as stack:
        serve_loop(workspace, wanted, lambda: begun(stack.enter_context(tracking_served(workspace, place, token))))


@contextmanager
def tracking_served(workspace: Workspace, place: Place, token: str | None = None) -> Iterator[str]:
    """The tracking server, as long as the context is open. Yields its address."""
    sock = _bind(place, _last_port(workspace.state))
    port = int(sock.getsockname()[1])
    address = f"http://{f'[{place.host}]' if ':' in place.host else place.host}:{port}"
    thread = _TrackingThread(workspace, sock, address, token)
    thread.start()
    try:
        thread.wait_until_ready()
        write_json(workspace.state / ADDRESS_FILE, {"address": address, "port": port, "pid": os.getpid()})
        yield address
    finally:
        thread.stop()


class _TrackingThread(threading.Thread):
    """The event loop of the tracking server. What its start raises is raised where it is waited for."""

    def __init__(self, workspace: Workspace, sock: socket.socket, address: str, token: str | None) -> None:
        super().__init__(name="tracking", daemon=True)
        self._workspace = workspace
        self._sock = sock
        self._address = address
        self._token = token
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    def run(self) -> None:
        """Open the tracking store, serve, close it."""
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._sock.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        project = self._workspace.project
        ledger = Ledger(self._workspace.ledger.path, project.name, self._workspace.clock)
        try:
            key = signing_key(self._workspace.settings.home)
            tracking = Tracking(project.state, ledger, project.name, key, guarded=tuple(project.spec.models))
            try:
                await Server(tracking, self._address, self._token).serve(self._sock, self._ready.set, self._ended)
            finally:
                tracking.close()
        finally:
            ledger.close()

    def wait_until_ready(self) -> None:
        """Return once requests are answered. Raises what kept it from that."""
        self._ready.wait(START_S)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Answer what was read, store the points, end."""
        if self._loop is not None and self._ended is not None and self.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
        self.join()


def server_address(state: Path) -> str | None:
    """Where the project's server said that it answers; None when none ever did."""
    try:
        return str(json.loads((state / ADDRESS_FILE).read_text())["address"])
    except FileNotFoundError:
        return None


def _last_port(state: Path) -> int:
    try:
        return int(json.loads((state / ADDRESS_FILE).read_text())["port"])
    except FileNotFoundError:
        return 0


def _token(place: Place) -> str | None:
    if place.token_file is None:
        if not _is_loopback(place.host):
            raise BedplateError(
                "beyond this machine the server needs a token",
                value=place.host,
                fix="add --token-file FILE, and a proxy with TLS before it",
            )
        return None
    token = place.token_file.read_text().strip()
    if len(token) < MIN_TOKEN_CHARS:
        raise BedplateError("the token is too short", value=str(place.token_file), fix=f"use at least {MIN_TOKEN_CHARS} characters")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise BedplateError("the server listens on an address, not a name", value=host, fix=f"use {LOOPBACK}") from error


def _bind(place: Place, last_port: int) -> socket.socket:
    for port in (place.port,) if place.port else (last_port, 0):
        sock = socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((place.host, port))
        except OSError as error:
            sock.close()
            if place.port or port == 0:
                raise Busy("the server's port cannot be bound", value=port, fix="end what holds it, or choose another --port") from error
            continue
        return sock
    raise Busy("no port is free", value=place.host, fix="choose one with --port")
