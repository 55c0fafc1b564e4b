"""Asking a replica: HTTP/1.1 to one port of this machine, over connections that are kept.

Small, because it is on the way of every routed answer. An answer of a known length is given whole, so that one that breaks off can be
asked of another replica; one that comes in pieces (server-sent events) is passed on piece by piece.
Does not know: which replica to ask, what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import httptools

from bedplate.serve.listen import LOOPBACK

Headers = list[tuple[bytes, bytes]]
KEPT = 64  # idle connections to one replica
CONNECT_S = 2.0
FRESH_S = 3.0  # a connection idle for longer is not used: the replica ends it after 5 s


class Broken(Exception):
    """The replica ended the connection before its answer was whole. `sent`: whether it may have seen the request."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the replica is gone")
        self.sent = sent


@dataclass(frozen=True)
class Reply:
    """An answer: its status, headers, and the body, or `pieces` of it that are still to come."""

    status: int
    headers: Headers
    body: bytes
    pieces: AsyncIterator[bytes] | None = None


class _Connection(asyncio.Protocol):
    """One connection, one request at a time. The methods `on_...` are called by httptools."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.kept_s = 0.0
        self._answer: asyncio.Future[Reply] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._pieces: asyncio.Queue[bytes | None] | None = None
        self._whole = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # that of uvloop is none by its class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed = True
        if self._pieces is not None and not self._whole:
            self._pieces.put_nowait(None)
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken(sent=True))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if not any(name == b"content-length" for name, _ in self._headers):
            self._pieces = asyncio.Queue()
            self._set(Reply(self._parser.get_status_code(), self._headers, b"", self._passed_on(self._pieces)))

    def on_body(self, body: bytes) -> None:
        if self._pieces is not None:
            self._pieces.put_nowait(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self._whole = True
        if not self._parser.should_keep_alive():
            self.closed = True
        if self._pieces is not None:
            self._pieces.put_nowait(b"")
        else:
            self._set(Reply(self._parser.get_status_code(), self._headers, b"".join(self._parts)))

    def _set(self, reply: Reply) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(reply)

    async def _passed_on(self, pieces: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while True:
            piece = await pieces.get()
            if piece is None:
                raise Broken(sent=True)
            if not piece:
                return
            yield piece

    async def ask(self, message: bytes) -> Reply:
        """Send a request and wait for its answer. Raises Broken."""
        if self.transport is None or self.closed or self.transport.is_closing():
            raise Broken(sent=False)
        self._reset()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return await self._answer

    @property
    def idle(self) -> bool:
        """Whether the answer came whole and another request may be sent."""
        return self._whole and not self.closed

    def abort(self) -> None:
        """Close at once: the replica sees that nobody waits."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()


class Upstream:
    """One replica's port. Belongs to one event loop."""

    def __init__(self, port: int) -> None:
        """Nothing is connected yet."""
        self.port = port
        self._idle: list[_Connection] = []
        self._closed = False

    async def ask(self, message: bytes) -> Reply:
        """The answer to a request, given as it goes over the wire. A task that is cancelled meanwhile closes the connection.

        Raises Broken; a kept connection that had ended in the meantime is not told apart from a replica that died on the request.
        """
        connection = await self._connected()
        try:
            reply = await connection.ask(message)
        except BaseException:
            connection.abort()
            raise
        if reply.pieces is None:
            self._keep(connection)
            return reply
        return Reply(reply.status, reply.headers, b"", self._followed(connection, reply.pieces))

    def close(self) -> None:
        """End the connections that are idle, and keep no other: what is under way is still answered."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _followed(self, connection: _Connection, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        finally:
            self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        if connection.idle and not self._closed and len(self._idle) < KEPT:
            connection.kept_s = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.abort()

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and loop.time() - connection.kept_s < FRESH_S:
                return connection
            connection.abort()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    _, made = await loop.create_connection(_Connection, LOOPBACK, self.port)
                    return made
        except OSError as error:
            raise Broken(sent=False) from error
        raise Broken(sent=False)
