"""HTTP as ASGI hands it over: read a request, answer JSON, refuse, find the route. Small, because it is on the way of every answer.

Who may ask is settled first (`Guard`), then the path and the method by exact match: everything that is not in the table is refused.
An error says what the caller sent and never what is inside; a failure inside is logged here under the id that the caller is told. Each
protocol has its own form of an error: a route's `errors` writes it.
Does not know: what is asked or answered, sockets.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.errors import BedplateError
from bedplate.serve.metrics import Meter

MAX_BODY_BYTES = 1 << 20
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
ANYBODY = "anybody"
_LOG = logging.getLogger("bedplate.serve")
_JSON = b"application/json"
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # made once: that is half the time of a short answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A request that is answered with an error: the HTTP status, and what, value and fix for the caller."""

    def __init__(self, status: int, what: str, *, value: Any = None, fix: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.value = value
        self.fix = fix
        self.headers = dict(headers or {})


class Gone(Exception):
    """The client went away: nobody reads an answer."""


class Call:
    """One request. `caller` is the name of the key that it came with, set by the guard."""

    __slots__ = ("_receive", "_send", "caller", "headers", "method", "path", "status")

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """What ASGI calls an application with."""
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        self.caller = ANYBODY
        self._receive = receive
        self._send = send
        self.status = 0  # of the answer; 0 before one was begun

    def header(self, name: bytes) -> str:
        """The value of a header by its name in lower case; empty when it was not sent."""
        for each, value in self.headers:
            if each == name:
                return value.decode("latin-1")
        return ""

    async def body(self, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
        """The request's body. Stops reading when it is too large, whatever length was announced. Raises Refused and Gone."""
        parts = bytearray()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Gone
            parts += message.get("body", b"")
            if len(parts) > limit_bytes:
                raise Refused(413, "the request is too large", value=len(parts), fix=f"send at most {limit_bytes} bytes")
            if not message.get("more_body"):
                return bytes(parts)

    async def json(self, limit_bytes: int = MAX_BODY_BYTES) -> dict[str, Any]:
        """The body as one JSON object, and declared as such: a web page cannot send that without asking first. Raises Refused and Gone."""
        data = await self.body(limit_bytes)
        if self.header(b"content-type").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the request is not declared as JSON", fix="send the header Content-Type: application/json")
        return json_object(data)

    async def reply(self, status: int, body: bytes, content_type: bytes = _JSON, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Answer at once."""
        self.status = status
        told = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": told})
        await self._send({"type": "http.response.body", "body": body})

    async def reply_json(self, value: object, status: int = 200) -> None:
        """Answer with JSON."""
        await self.reply(status, encoded(value))

    async def begin(self, content_type: bytes) -> None:
        """Begin an answer that comes in pieces."""
        self.status = 200
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, data: bytes, *, more: bool = True) -> None:
        """Send a piece; with `more=False` the last one."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def gone(self) -> None:
        """Wait until the client goes away. To be awaited once, after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    @property
    def begun(self) -> bool:
        """Whether an answer was begun."""
        return self.status != 0


Handler = Callable[[Call], Awaitable[None]]
Errors = Callable[[Refused], object]
Guard = Callable[[Call], None]


def plain_error(refused: Refused) -> object:
    """An error of the plain JSON routes."""
    return {"error": {"what": refused.what, "value": refused.value, "fix": refused.fix}}


@dataclass(frozen=True)
class Route:
    """A path and what it answers, by method. `errors` writes its errors; `summary` says in words what it is for."""

    path: str
    methods: Mapping[str, Handler]
    summary: str = ""
    errors: Errors = plain_error


class Application:
    """The ASGI application of a table of routes."""

    def __init__(
        self, routes: Sequence[Route], guards: Sequence[Guard], errors: Mapping[str, Errors] | None = None, meter: Meter | None = None
    ) -> None:
        """`errors` maps a prefix of paths to the form of errors there, for paths that are no route. `meter` is told of what was posted."""
        self._routes = {route.path: route for route in routes}
        self._guards = tuple(guards)
        self._errors = dict(errors or {})
        self._meter = meter or Meter()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        call = Call(scope, receive, send)
        if call.method != "POST":
            await self._answer(call)
            return
        begun_s = time.perf_counter()
        self._meter.in_flight += 1
        try:
            await self._answer(call)
        finally:
            self._meter.in_flight -= 1
            self._meter.add(call.status or 500, time.time(), time.perf_counter() - begun_s)

    async def _answer(self, call: Call) -> None:
        route = self._routes.get(call.path)
        try:
            for guard in self._guards:
                guard(call)
            await self._handler(call, route)(call)
        except Refused as refused:
            await self._refuse(call, route, refused)
        except Gone:
            await call.reply(400, b"")  # nobody reads it
        except Exception as error:  # noqa: BLE001 - left to the server it would cost the connection; it is logged, with an id
            await self._refuse(call, route, failed(error))

    async def _refuse(self, call: Call, route: Route | None, refused: Refused) -> None:
        if call.begun:  # half an answer: the end of the connection says that it is not whole
            raise refused
        headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        await call.reply(refused.status, encoded(self._form(call, route)(refused)), headers=headers)

    def _form(self, call: Call, route: Route | None) -> Errors:
        if route is not None:
            return route.errors
        return next((errors for prefix, errors in self._errors.items() if call.path.startswith(prefix)), plain_error)

    def _handler(self, call: Call, route: Route | None) -> Handler:
        if route is None:
            raise Refused(404, "no such route", fix="GET / lists what can be asked")
        handler = route.methods.get(call.method)
        if handler is None:
            allowed = ", ".join(route.methods)
            raise Refused(405, "no such method", value=call.method[:20], fix=f"use {allowed}", headers={"Allow": allowed})
        return handler


def loopback_only(call: Call) -> None:
    """The guard of an endpoint without keys. Raises Refused for a Host that is no loopback name: a page of another site that rebinds its
    own name would send that one.
    """
    hosts = [value.decode("latin-1") for name, value in call.headers if name == b"host"]
    if len(hosts) != 1 or re.sub(r":\d+$", "", hosts[0]).lower() not in LOOPBACK_NAMES:
        raise Refused(421, "this endpoint answers to loopback names only", fix="use http://127.0.0.1")


def failed(error: Exception) -> Refused:
    """A failure inside: the caller learns an id, the log the rest."""
    identity = os.urandom(6).hex()
    detail = error.one_line() if isinstance(error, BedplateError) else repr(error)
    _LOG.error("no answer (%s): %s", identity, detail, exc_info=error)
    return Refused(500, "the endpoint could not answer", value=identity, fix="look for this value in the endpoint's log")


def encoded(value: object) -> bytes:
    """Compact JSON. Raises ValueError for a number that is none."""
    return _ENCODER.encode(value).encode()


def json_object(data: bytes) -> dict[str, Any]:
    """One JSON object. Raises Refused for anything else."""
    try:
        body = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is not JSON", fix="send one JSON object; NaN and Infinity are not JSON") from error
    if not isinstance(body, dict):
        fix = 'send {"field": value} or {"instances": [...]}'
        raise Refused(400, "the request is not a JSON object", value=type(body).__name__, fix=fix)
    return body


def _no_constant(name: str) -> None:
    raise ValueError(name)
