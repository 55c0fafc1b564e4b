"""The gateway: one endpoint over HTTP. A request names what to answer about; features are looked up, a model answers, all is remembered.

    POST /predict   {field: value}                 -> {"id", "prediction", "model"}
                    {"instances": [{…}, …]}        -> {"ids": […], "predictions": […], "model"}     (KServe's V1 form)
    GET  /health    200 with the model's reference and what became of the answers
    GET  /          what can be asked, with an example

Everything else is refused. An error is {"error": {"what", "value", "fix"}}: it names what the caller sent and never what is inside; a
failure inside is logged here under the id that the caller is told. Requests must come to a loopback name, as JSON: a web page cannot
send one without asking first, and asking is refused.
Lookup and model run on the event loop. On 2 cores, at 1 and 32 connections, a torch call of 0.35 ms gave 1,047 and 1,085 answers a second
so, 713 and 769 through a thread; one of 2.5 ms gave 302 and 340, and 273 and 192. Meanwhile a slow call keeps the others waiting.
Does not know: features, models, where answers are kept, sockets.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bedplate.core.clock import Clock, SystemClock, instant
from bedplate.core.errors import BedplateError, DataError, NotFound, nearest

MAX_BODY_BYTES = 1 << 20
MAX_INSTANCES = 1000
MAX_SHOWN = 200
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_LOG = logging.getLogger("bedplate.serve")


@dataclass(frozen=True)
class Field:
    """A field of a request, with a type of a dataset's column: string, int, float, bool or timestamp. If not required, it may be null."""

    name: str
    type: str
    required: bool = True


@dataclass(frozen=True)
class EndpointInfo:
    """An endpoint: its name, what a request holds, the model version behind it (reference, digest, run), the token of this attempt."""

    name: str
    fields: tuple[Field, ...]
    model: str
    digest: str
    run: str
    attempt: int
    example: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Looked:
    """What a lookup found: the row that the model is given, the references of the versions it came from, and as of when (seconds since
    the epoch; None: the lookup knows no time).
    """

    row: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    as_of_s: float | None = None


Lookup = Callable[[Sequence[Mapping[str, Any]]], Sequence[Looked]]
Predict = Callable[[list[Mapping[str, Any]]], Sequence[float]]


class Refused(Exception):
    """A request that is answered with an error: the HTTP status, and what, value and fix for the caller."""

    def __init__(self, status: int, what: str, *, value: Any = None, fix: str) -> None:
        super().__init__(what)
        self.status = status
        self.body = {"error": {"what": what, "value": value, "fix": fix}}


def app(
    endpoint: EndpointInfo,
    lookup: Lookup,
    predict: Predict,
    remember: Callable[[Mapping[str, Any]], None],
    health: Callable[[], Mapping[str, Any]] = dict,
    clock: Clock | None = None,
) -> ASGIApp:
    """The ASGI application of one endpoint.

    `lookup` finds the rows of all instances of a request at once; it raises NotFound or DataError where it cannot, and both go to the
    caller. `predict` gives one finite number per row. `remember` takes one JSON record per answer and must not block. `health` says what
    became of the answers.
    """
    gateway = _Gateway(endpoint, lookup, predict, remember, clock or SystemClock())
    description = {
        "endpoint": endpoint.name,
        "model": endpoint.model,
        "predict": "POST /predict",
        "fields": {each.name: each.type + ("" if each.required else ", may be null") for each in endpoint.fields},
        "example": dict(endpoint.example),
    }

    async def root(_request: Request) -> Response:
        return _json(200, description)

    async def healthy(_request: Request) -> Response:
        return _json(200, {"status": "ready", "model": endpoint.model, "answers": dict(health())})

    routes = [Route("/", root), Route("/health", healthy), Route("/predict", gateway.answer, methods=["POST"])]
    inner = Starlette(routes=routes, exception_handlers={HTTPException: _refused_route})
    inner.router.redirect_slashes = False
    return _LoopbackOnly(inner)


class _Gateway:
    """One endpoint's way from a request to an answer."""

    def __init__(
        self, endpoint: EndpointInfo, lookup: Lookup, predict: Predict, remember: Callable[[Mapping[str, Any]], None], clock: Clock
    ) -> None:
        self._endpoint = endpoint
        self._lookup = lookup
        self._predict = predict
        self._remember = remember
        self._clock = clock
        self._fields = {each.name: each for each in endpoint.fields}

    async def answer(self, request: Request) -> Response:
        """POST /predict."""
        try:
            body = _parsed(request, await _body(request))
            many = "instances" in body and "instances" not in self._fields
            instances = _instances(body) if many else [body]
            for instance in instances:
                self._check(instance)
            ids, predictions = self._answer(instances)
        except Refused as error:
            return _json(error.status, error.body)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - left to the server it would cost the connection; it is logged, with an id
            return _failed(error)
        if many:
            return _json(200, {"ids": ids, "predictions": predictions, "model": self._endpoint.model})
        return _json(200, {"id": ids[0], "prediction": predictions[0], "model": self._endpoint.model})

    def _answer(self, instances: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[float]]:
        """Look up, predict, remember."""
        begun_s = time.perf_counter()
        try:
            looked = self._lookup(instances)
        except (NotFound, DataError) as error:
            status = 404 if isinstance(error, NotFound) else 422
            raise Refused(status, error.what, value=_shown(error.value), fix=error.fix or "correct the request") from error
        predictions = [float(value) for value in self._predict([found.row for found in looked])]
        latency_s = time.perf_counter() - begun_s
        now_s = self._clock.now()
        ids = [answer_id(now_s) for _ in instances]
        for number, instance in enumerate(instances):
            self._remember(self._record(ids[number], now_s, instance, looked[number], predictions[number], latency_s))
        return ids, predictions

    def _record(
        self, identity: str, now_s: float, request: Mapping[str, Any], looked: Looked, prediction: float, latency_s: float
    ) -> dict[str, Any]:
        return {
            "id": identity,
            "at": now_s,
            "endpoint": self._endpoint.name,
            "request": dict(request),
            "features": {name: _plain(value) for name, value in looked.row.items()},
            "versions": dict(looked.versions),
            "as_of": looked.as_of_s,
            "prediction": prediction,
            "model": self._endpoint.model,
            "digest": self._endpoint.digest,
            "run": self._endpoint.run,
            "attempt": self._endpoint.attempt,
            "latency_s": round(latency_s, 6),
        }

    def _check(self, instance: Mapping[str, Any]) -> None:
        """Raises Refused unless the instance has every required field, no unknown one, and each of its type."""
        for name in instance:
            if name not in self._fields:
                raise Refused(422, "the request has an unknown field", value=_shown(name), fix=nearest(name, self._fields))
        for name, declared in self._fields.items():
            value = instance.get(name)
            if value is None and declared.required:
                raise Refused(422, "the request lacks a field", value=name, fix=f"send {name!r}, a {declared.type}; GET / shows an example")
            if value is not None and not _fits(value, declared.type):
                fix = _TYPE_FIXES.get(declared.type, f"send a {declared.type}")
                raise Refused(422, f"the field {name!r} is no {declared.type}", value=_shown(value), fix=fix)


_TYPE_FIXES: Mapping[str, str] = {
    "timestamp": "send an ISO 8601 text such as 2013-01-31T05:40:00Z",
    "int": "send a whole number of at most 64 bits",
}


def _fits(value: Any, declared: str) -> bool:
    if declared == "bool" or isinstance(value, bool):
        return declared == "bool" and isinstance(value, bool)
    if declared == "int":
        return isinstance(value, int) and -(2**63) <= value < 2**63
    if declared == "float":
        return isinstance(value, int | float) and abs(value) <= 1.7e308
    return isinstance(value, str) and (_is_text(value) if declared == "string" else _is_instant(value))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can write it, no file can hold it
        return False
    return True


def _is_instant(text: str) -> bool:
    try:
        instant(text)
    except (ValueError, OverflowError):
        return False
    return True


def _parsed(request: Request, data: bytes) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "the request is not declared as JSON", fix="send the header Content-Type: application/json")
    try:
        body = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the request is not JSON", fix="send one JSON object; NaN and Infinity are not JSON") from error
    if not isinstance(body, dict):
        raise Refused(
            400, "the request is not a JSON object", value=type(body).__name__, fix='send {"field": value} or {"instances": [...]}'
        )
    return body


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _instances(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    instances = body["instances"]
    if len(body) > 1 or not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
        raise Refused(400, '"instances" is a list of JSON objects, and alone', fix='send {"instances": [{...}, {...}]}')
    if not 0 < len(instances) <= MAX_INSTANCES:
        raise Refused(413, f"a request holds 1 to {MAX_INSTANCES} instances", value=len(instances), fix="send several requests")
    return instances


async def _body(request: Request) -> bytes:
    """The request's body; stops reading when it is too large, whatever length was announced."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_BODY_BYTES:
            raise Refused(413, "the request is too large", value=len(body), fix=f"send at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


def answer_id(now_s: float) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): ids sort by their millisecond, then by 12 bits of its fraction (method 3)."""
    milliseconds, fraction = divmod(int(now_s * 4_096_000), 4096)
    high = (milliseconds & (1 << 48) - 1) << 16 | 0x7000 | fraction
    low = int.from_bytes(os.urandom(8)) & (1 << 62) - 1 | 1 << 63
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _LoopbackOnly:
    """Refuses a request whose Host is not a loopback name: a page of another site that rebinds its own name would send that one."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and re.sub(r":\d+$", "", hosts[0]).lower() in LOOPBACK_NAMES:
            await self._inner(scope, receive, send)
            return
        refused = Refused(421, "this endpoint answers to loopback names only", fix="use http://127.0.0.1")
        await _json(refused.status, refused.body)(scope, receive, send)


async def _refused_route(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = "no such method" if error.status_code == 405 else "no such route"
    refused = Refused(error.status_code, what, fix="POST /predict, GET /health or GET /")
    return _json(refused.status, refused.body, error.headers)


def _failed(error: Exception) -> Response:
    """A failure inside: the caller learns an id, the log the rest."""
    identity = os.urandom(6).hex()
    detail = error.one_line() if isinstance(error, BedplateError) else repr(error)
    _LOG.error("no answer (%s): %s", identity, detail, exc_info=error)
    refused = Refused(500, "the endpoint could not answer", value=identity, fix="look for this value in the endpoint's log")
    return _json(refused.status, refused.body)


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return Response(data, status, dict(headers or {}), "application/json")


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: a number that is none is null, a time is its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return _plain(value.item()) if hasattr(value, "item") else str(value)


def _shown(value: Any) -> Any:
    """A value of the caller's as an error repeats it: short, and never a structure."""
    plain = value if isinstance(value, str) else type(value).__name__ if isinstance(value, dict | list) else _plain(value)
    return plain if len(str(plain)) <= MAX_SHOWN else str(plain)[:MAX_SHOWN] + "…"
