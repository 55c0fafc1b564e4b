"""The door: the public port of an endpoint, which the router of one version gives to that of the next, beside a port of its own that stays.

Does not know: which version has the public port (whoever calls `shut` and `reopen`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from bedplate.serve.listen import BACKLOG, Listener

PATIENCE_S = 5.0


class Door(Listener):
    """A listener on two sockets: `sock` is the public one, `inner` is asked by the router of another version."""

    def __init__(
        self,
        app: Any,
        sock: socket.socket,
        inner: socket.socket,
        *,
        on_ready: Callable[[int], None],
        on_leave: Callable[[], None],
        on_last: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        """Nothing is started. `on_leave` is called, in a thread, before the ports are closed at the end, and
        `on_last`, in the event loop, after the last answer.
        """
        super().__init__(app, sock, on_ready=on_ready, on_stop=on_stop)
        self._inner = inner
        self._on_leave = on_leave
        self._on_last = on_last
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which all is answered; there is one from `on_ready` on."""
        assert self._loop is not None
        return self._loop

    @property
    def sockets(self) -> list[socket.socket]:
        """Both sockets."""
        return [self._sock, self._inner]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As a listener's."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As a listener's, between `on_leave` and `on_last`."""
        await asyncio.to_thread(self._on_leave)
        await super().shutdown(sockets)
        self._on_last()
        await asyncio.sleep(0)  # connections that were ended there are closed in the next turn of the loop

    def shut(self) -> None:
        """Take no more connections at the public port; those that are there stay. From another thread."""
        asyncio.run_coroutine_threadsafe(self.leave(), self.loop).result(PATIENCE_S)

    def reopen(self, sock: socket.socket) -> None:
        """Take connections at a public port again. From another thread."""
        asyncio.run_coroutine_threadsafe(self._reopen(sock), self.loop).result(PATIENCE_S)

    async def _reopen(self, sock: socket.socket) -> None:
        self.servers.insert(0, await self.loop.create_server(self.protocol, sock=sock, backlog=BACKLOG))
        self._sock = sock
