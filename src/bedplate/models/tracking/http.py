"""HTTP/1.1 for the tracking server: a small protocol on asyncio, because most requests are tiny and their number is what counts.

Requests of one turn of the event loop share one commit: an answer leaves after what it acknowledges is durable. A connection's requests
are answered in their order. Uploads stream to their file; downloads go by sendfile. A request must come to a name that this server
answers to, and from no page of another site, whatever the page's own name resolves to; with a token, only who sends it is answered.
Sizes are bounded: head, body, connections. Read: RFC 9112 (messages), 9110 (semantics).
Does not know: routes or their meaning.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from bedplate.models.tracking import artifacts, routes
from bedplate.models.tracking.refusal import Answer, Refused
from bedplate.models.tracking.store import Tracking

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 16 << 20
MAX_CONNECTIONS = 1024
MAX_KNOWN_HEADS = 4096
MAX_KNOWN_BYTES = 1024
TEND_S = 0.5
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 413: "Content Too Large"}
_PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Server:
    """Serves one `Tracking` on sockets of one event loop, in the thread that runs it."""

    def __init__(self, tracking: Tracking, address: str, token: str | None = None) -> None:
        """`address` is what clients are told; with a `token`, any name is answered to, but only for who has it."""
        self.tracking = tracking
        self.address = address
        self.connections: set[Connection] = set()
        self._token = token
        self._heads: dict[bytes, tuple[Head, Refused | None]] = {}
        self._waiting: list[tuple[Connection, Answer, bool]] = []

    async def serve(self, sock: socket.socket, ready: Callable[[], None], ended: asyncio.Event) -> None:
        """Serve until `ended` is set; then answer what was read, and return."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self, loop), sock=sock, backlog=512)
        ready()
        try:
            while not ended.is_set():
                self.tracking.tend()
                try:
                    await asyncio.wait_for(ended.wait(), TEND_S)
                except TimeoutError:
                    continue
        finally:
            server.close()
            self.flush()
            for connection in list(self.connections):
                connection.close()

    def head(self, data: bytes) -> tuple[Head, Refused | None]:
        """A request's head, and why it is not answered, if it is not. A client's heads are few: each is read once. Raises Refused."""
        known = self._heads.get(data)
        if known is None:
            head = parse_head(data)
            known = head, self.refusal(head.headers)
            if len(data) < MAX_KNOWN_BYTES:
                if len(self._heads) >= MAX_KNOWN_HEADS:
                    self._heads.clear()
                self._heads[data] = known
        return known

    def refusal(self, headers: Mapping[bytes, bytes]) -> Refused | None:
        """Why a request is not answered, if it is not: a web page of another site, a name that is not this server's, no token."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = re.sub(r":\d+$", "", host)
        if self._token is None and name not in LOOPBACK_NAMES:
            return Refused("PERMISSION_DENIED", "this server answers to loopback names only; use http://127.0.0.1")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() not in (f"http://{host}", f"https://{host}"):
            return Refused("PERMISSION_DENIED", "this server takes no requests from pages of other sites")
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return Refused("PERMISSION_DENIED", "this server takes no requests from pages of other sites")
        if self._token is not None and not hmac.compare_digest(_given(headers.get(b"authorization", b"")), self._token.encode()):
            return Refused("UNAUTHENTICATED", "send the server's token: set MLFLOW_TRACKING_TOKEN")
        return None

    def answer_later(self, connection: Connection, answer: Answer, keep: bool) -> None:
        """Send an answer after the next commit, which comes in the same turn of the event loop."""
        if not self._waiting:
            connection.loop.call_soon(self.flush)
        self._waiting.append((connection, answer, keep))

    def flush(self) -> None:
        """Commit, then send the answers that waited for it."""
        waiting, self._waiting = self._waiting, []
        try:
            self.tracking.commit()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            failure = routes.failed(error)
            waiting = [(connection, failure, keep) for connection, _, keep in waiting]
        for connection, answer, keep in waiting:
            connection.send(answer, keep)


def _given(authorization: bytes) -> bytes:
    """The token in a header `Authorization`: a bearer's, or the password of a user, as MLflow's client sends either."""
    scheme, _, rest = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    try:
        return base64.b64decode(rest, validate=True).partition(b":")[2] if scheme.lower() == b"basic" else b""
    except binascii.Error:
        return b""


class Connection(asyncio.Protocol):
    """One client's connection: one request at a time, kept alive."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._busy = False  # an answer is being made: what comes meanwhile waits
        self._head: Head | None = None
        self._body = bytearray()
        self._upload: artifacts.Upload | None = None
        self._refused: Refused | None = None
        self._ended = False  # the client sends no more
        self._last_chunk = False
        self._left = 0  # bytes of the body, or of its present chunk, that have not come

    # -- asyncio ------------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        if len(self._server.connections) > MAX_CONNECTIONS:
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone; what it had not finished handing in is forgotten."""
        self._server.connections.discard(self)
        self._transport = None
        if self._upload is not None and not self._busy:
            self._upload.abandon()
            self._upload = None

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer += data
        if not self._busy:
            self._go_on()
        elif len(self._buffer) > MAX_BODY_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; it may still wait for answers."""
        self._ended = True
        return self._busy

    def close(self) -> None:
        """Hang up, after what was sent."""
        if self._transport is not None:
            self._transport.close()

    # -- reading ------------------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Read as far as the bytes reach: heads, bodies."""
        try:
            while not self._busy and self._transport is not None:
                if self._head is None and not self._read_head():
                    return
                if not self._read_body():
                    return
                self._handle()
        except Refused as refused:
            self._busy = True
            if self._upload is not None:
                self._upload.abandon()
                self._upload = None
            self.send(refused.answer(), keep=False)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise Refused("BAD_REQUEST", "the head of the request is too long", 431)
            return False
        head, self._refused = self._server.head(bytes(self._buffer[:end]))
        self._head, self._last_chunk = head, False
        del self._buffer[: end + 4]
        self._body.clear()
        self._left = head.length
        if self._refused is None and head.method == "PUT":
            self._begin_upload(head)
        if self._upload is None and head.length > MAX_BODY_BYTES:
            raise Refused("BAD_REQUEST", f"a request is larger than {MAX_BODY_BYTES} bytes", 413)
        if head.headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _begin_upload(self, head: Head) -> None:
        try:
            path = head.path
            for prefix, part in ((f"{routes.FILES}/", False), (routes.PARTS, True)):
                if path.startswith(prefix):
                    self._upload = artifacts.Upload(self._server.tracking, path.removeprefix(prefix), part=part)
        except Refused as refused:
            self._refused = refused  # the body is read to its end all the same: what follows is the next request

    def _read_body(self) -> bool:
        """Whether the body is all there."""
        head = self._head
        assert head is not None
        if not head.chunked:
            self._take(self._left)
            return self._left == 0
        while True:
            if self._left == 0:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    if len(self._buffer) > 1024:
                        raise Refused("BAD_REQUEST", "the length of a chunk is no number")
                    return False
                size = self._buffer[:end].partition(b";")[0].strip()
                if self._last_chunk:  # trailers, up to an empty line
                    del self._buffer[: end + 2]
                    if end == 0:
                        return True
                    continue
                if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
                    raise Refused("BAD_REQUEST", "the length of a chunk is no number")
                del self._buffer[: end + 2]
                self._left, self._last_chunk = int(size, 16) + 2, int(size, 16) == 0  # with the line's end
                if self._last_chunk:
                    self._left = 0
                    continue
            self._take(self._left - 2)
            if len(self._buffer) < 2 or self._left > 2:
                return False
            del self._buffer[:2]
            self._left = 0

    def _take(self, wanted: int) -> None:
        """Move at most `wanted` bytes from the buffer to where the body goes."""
        count = min(wanted, len(self._buffer))
        if count <= 0:
            return
        if self._upload is not None and self._refused is None:
            self._upload.write(bytes(self._buffer[:count]))
        elif self._refused is None:
            self._body += self._buffer[:count]
            if len(self._body) > MAX_BODY_BYTES:
                raise Refused("BAD_REQUEST", f"a request is larger than {MAX_BODY_BYTES} bytes", 413)
        del self._buffer[:count]
        self._left -= count

    # -- answering ----------------------------------------------------------------------------------------------------------------

    def _handle(self) -> None:
        head, body = self._head, bytes(self._body)
        assert head is not None
        self._head, self._busy = None, True
        if self._refused is not None:
            if self._upload is not None:
                self._upload.abandon()
                self._upload = None
            self._server.answer_later(self, self._refused.answer(), head.keep)
        elif self._upload is not None:
            self.loop.create_task(self._finish_upload(head.keep))
        else:
            answer = routes.answer(self._server.tracking, head.method, head.path, head.query, body, self._server.address)
            self._server.answer_later(self, answer, head.keep)

    async def _finish_upload(self, keep: bool) -> None:
        upload, self._upload = self._upload, None
        assert upload is not None
        try:
            answer = await self.loop.run_in_executor(None, upload.finish)
        except Refused as refused:
            answer = refused.answer()
        except OSError as error:
            upload.abandon()
            answer = routes.failed(error)
        self.send(answer, keep)

    def send(self, answer: Answer, keep: bool) -> None:
        """Send an answer; then go on with what came meanwhile, or hang up."""
        if self._transport is None:
            return
        if isinstance(answer.body, Path):
            self.loop.create_task(self._send_file(answer, answer.body, keep))
            return
        self._transport.write(_head_of(answer, len(answer.body), keep) + answer.body)
        self._sent(keep)

    def _sent(self, keep: bool) -> None:
        if not keep:
            self.close()
            return
        self._busy = False
        if self._transport is not None:
            self._transport.resume_reading()
        if self._buffer:
            self._go_on()
        if self._ended and not self._busy:
            self.close()

    async def _send_file(self, answer: Answer, path: Path, keep: bool) -> None:
        try:
            file = path.open("rb")
        except OSError as error:
            self.send(routes.failed(error), keep)
            return
        with file:
            size = path.stat().st_size
            if self._transport is None:
                return
            self._transport.write(_head_of(answer, size, keep))
            try:
                if size:
                    await self.loop.sendfile(self._transport, file, 0, size)
            except (ConnectionError, RuntimeError):
                self.close()  # the client is gone, or the file became shorter
                return
        self._sent(keep)


def _head_of(answer: Answer, size: int, keep: bool) -> bytes:
    if answer.status == 200 and keep and answer.content_type == "application/json" and not answer.headers:
        return _PLAIN + str(size).encode() + b"\r\n\r\n"
    lines = [
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Error')}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {size}",
        *(f"{name}: {value}" for name, value in answer.headers),
        *(() if keep else ("Connection: close",)),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")


class Head(NamedTuple):
    """The head of a request. `length` is the body's in bytes, 0 for a chunked one; `keep` whether the connection stays."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    chunked: bool
    length: int
    keep: bool


def parse_head(data: bytes) -> Head:
    """Read a head, without the empty line at its end. Raises Refused for one that cannot be read, or could be read in two ways."""
    first, *lines = data.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or not _TOKEN.fullmatch(parts[0]):
        raise Refused("BAD_REQUEST", "the request cannot be read")
    target = parts[1]
    if target.startswith((b"http://", b"https://")):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    raw, _, query = target.partition(b"?")
    headers = _headers(lines)
    coding, length = headers.get(b"transfer-encoding", b"").lower(), headers.get(b"content-length", b"0")
    chunked = coding == b"chunked"
    if (coding and not chunked) or (coding and b"content-length" in headers) or not re.fullmatch(rb"\d{1,15}", length):
        raise Refused("BAD_REQUEST", "the length of the body cannot be told")
    said = headers.get(b"connection", b"").lower()
    keep = b"close" not in said and (parts[2] == b"HTTP/1.1" or b"keep-alive" in said)
    try:
        path, asked = unquote_to_bytes(raw).decode(), query.decode()
    except UnicodeDecodeError as error:
        raise Refused("BAD_REQUEST", "the address of the request is no text") from error
    return Head(parts[0].decode(), path, asked, headers, chunked, 0 if chunked else int(length), keep)


def _headers(lines: Sequence[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        twice = name in headers and name in (b"content-length", b"host", b"transfer-encoding")
        if not colon or not _TOKEN.fullmatch(name) or twice:
            raise Refused("BAD_REQUEST", "a header of the request cannot be read")
        headers[name] = value.strip()
    return headers
