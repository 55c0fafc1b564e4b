"""Listening: a loopback socket, and an ASGI application served on it until the process is told to stop.

A new replica binds the port of the one before (SO_REUSEPORT) and takes connections once it listens, while the old one finishes what it
has begun. The kernel spreads new connections over all sockets of a port, and resets those that wait at one that is closed; so before it
is closed, the newest is told to get them all, and those that wait are taken. Elsewhere than on Linux a connection of that very instant is
reset, and its client tries again. Nothing but a loopback address is bound: beyond the machine there is neither authentication nor
encryption yet.
Does not know: what the application answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from bedplate.core.errors import BedplateError, Busy

LOOPBACK = "127.0.0.1"
GRACE_S = 10
BACKLOG = 1024
LAST_REQUEST_S = 0.1
SO_ATTACH_REUSEPORT_CBPF = 51  # linux/asm-generic/socket.h
RETURN_1 = struct.pack("=HBBI", 0x06, 0, 0, 1)  # struct sock_filter, linux/filter.h: BPF_RET | BPF_K, the number of a socket


def prefer_newest(sock: socket.socket) -> None:
    """Let the second of the two sockets that listen on a port, which is the newer, get all new connections; `sock` is one of them.

    Alone it gets them on: the kernel falls back to the sockets that there are (socket(7), SO_ATTACH_REUSEPORT_CBPF). Nothing but on Linux.
    """
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(RETURN_1, len(RETURN_1))
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("HL", 1, ctypes.addressof(program)))


def taken(listening: socket.socket) -> list[socket.socket]:
    """The connections that wait at a socket, which is closed after the last."""
    listening.setblocking(False)
    waiting: list[socket.socket] = []
    with listening, contextlib.suppress(BlockingIOError):
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            waiting.append(connection)
    return waiting


def bind(port: int, host: str = LOOPBACK) -> socket.socket:
    """A bound TCP socket that does not listen yet; port 0 takes a free one (see `getsockname`).

    Raises BedplateError for an address that other machines can reach, and Busy when a stranger holds the port.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise BedplateError("an endpoint listens on an address, not a name", value=host, fix=f"use {LOOPBACK}") from error
    if not address.is_loopback:
        raise BedplateError(
            "an endpoint listens on loopback only", value=host, fix=f"use {LOOPBACK}, and a proxy with TLS and authentication before it"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only where the protocol is named
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise Busy("the port of the endpoint cannot be bound", value=port, fix="end what holds it, or declare another `port:`") from error
    return sock


class Listener(uvicorn.Server):
    """Serves `app` on `sock`. `run` blocks until SIGTERM or SIGINT, or `stop` from any thread; requests under way are answered first.

    `on_ready` is called with the port when connections are taken, `on_stop` when the last answer left.
    """

    def __init__(
        self,
        app: Any,
        sock: socket.socket,
        *,
        on_ready: Callable[[int], None],
        on_stop: Callable[[], None] = lambda: None,
        grace_s: int = GRACE_S,
    ) -> None:
        """Nothing is started. `grace_s` bounds how long requests under way may still take."""
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=grace_s,
                ws="none",
                proxy_headers=False,
            )
        )
        self._sock = sock
        self._on_ready = on_ready
        self._on_stop = on_stop

    @property
    def sockets(self) -> list[socket.socket]:
        """What is listened on."""
        return [self._sock]

    def serve_until_stopped(self) -> None:
        """Serve; returns after the socket is closed and `on_stop` returned."""
        try:
            with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:  # uvloop, where it can be installed
                runner.run(self.serve(self.sockets))
        finally:
            for sock in self.sockets:
                sock.close()
            self._on_stop()

    def stop(self) -> None:
        """Take no more connections, finish, return from `serve_until_stopped`."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then say that the endpoint is ready."""
        port = int(self._sock.getsockname()[1])
        await super().startup(sockets)
        self._on_ready(port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but who connected just before the end gets an answer: uvicorn hangs up on a connection without a request."""
        await self.leave()
        for server in self.servers:
            server.close()
        await asyncio.sleep(LAST_REQUEST_S)
        await super().shutdown(sockets)

    async def leave(self) -> None:
        """Take no more connections at `sock`, once those that wait there are taken. Nothing where it was left before."""
        if self._sock.fileno() < 0:
            return
        prefer_newest(self._sock)
        with self._sock as sock:
            listening = sock.dup()  # that what waits is taken after the event loop has closed its own, and then nothing comes between
            self.servers.pop(0).close()
        await asyncio.sleep(0)  # it is closed in the next turn of the loop
        loop = asyncio.get_running_loop()
        for connection in taken(listening):
            await loop.connect_accepted_socket(self.protocol, connection)

    def protocol(self) -> asyncio.Protocol:
        """What answers one connection."""
        return self.config.http_protocol_class(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]  # uvicorn declares a plain Protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: the process ends as it likes, after its answers are stored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(app: Any, sock: socket.socket, on_ready: Callable[[int], None], on_stop: Callable[[], None], grace_s: int = GRACE_S) -> None:
    """Serve `app` on `sock` in this thread until the process is told to stop."""
    Listener(app, sock, on_ready=on_ready, on_stop=on_stop, grace_s=grace_s).serve_until_stopped()
