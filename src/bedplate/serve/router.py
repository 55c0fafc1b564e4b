"""The router: one port before several replicas of an endpoint, and, while a new version takes over, before those of two versions.

A request goes to the replica with the least under way. One whose replica died before it answered is sent to another where asking twice
does no harm, else it is told once to ask again (503 with Retry-After). While no replica answers, requests are held, so many and no more;
past that they are told to ask again. A failure of a version that is only tried (`canary`) is asked again of the version before.
Does not know: how replicas are started, how many there should be, when a share changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.serve.asgi import Call, Gone, Guard, Receive, Refused, Send, encoded, failed, plain_error
from bedplate.serve.metrics import TEXT, Count, answered, numbers
from bedplate.serve.upstream import Broken, Reply, Upstream

HOP = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection", b"content-length", b"expect"}
)
REPEATABLE = ("/predict", "/v2/")  # predictions change nothing, so asking twice does no harm
SHADOWS = 64  # copies under way; more are not sent, and counted
SLACK_S = 5.0  # beyond the deadline that replicas keep themselves
AGAIN_S = 0.1  # until a replica that broke a connection may be asked again
OWN, BEFORE = "own", "before"


@dataclass(eq=False)
class Backend:
    """One replica as the router sees it: `side` is `own`, or `before` for the router of the version before."""

    name: str
    side: str
    upstream: Upstream
    in_flight: int = 0
    suspect: bool = False  # it broke a connection; whoever keeps replicas says when it is well again


@dataclass(frozen=True)
class Share:
    """`own`: the share of requests, 0 to 1, that this version answers. `shadow`: it is asked those of the version before too."""

    own: float = 1.0
    shadow: bool = False


class Router:
    """The ASGI application. All but `seen` belongs to one event loop."""

    def __init__(self, endpoint: str, model: str, guards: Sequence[Guard], *, hold: int, deadline_s: float) -> None:
        """`hold`: requests that may wait for a replica; `deadline_s`: how long a replica may take."""
        self._labels = {"endpoint": endpoint, "model": model}
        self._guards = tuple(guards)
        self._hold = hold
        self._deadline_s = deadline_s
        self._backends: tuple[Backend, ...] = ()
        self._changed = asyncio.Event()
        self._shadows: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311 - a share of requests is no secret
        self.share = Share()
        self.held = 0
        self.under_way = 0
        self.refused = 0
        self.repeated = 0
        self.unshadowed = 0
        self.replicas_wanted = 0
        self.retry_after_s = 2
        self.answers_lost = 0
        self.asked_at_s: float | None = None
        self.total = {OWN: Count(), BEFORE: Count()}
        self.step = Count()
        self.door: int | None = None  # the public port, when connections to it are to be given up
        self._levels: deque[tuple[float, int]] = deque(maxlen=4096)

    def place(self, backends: Sequence[Backend]) -> None:
        """From now on these are asked, and no others."""
        for gone in set(self._backends) - set(backends):
            gone.upstream.close()
        self._backends = tuple(backends)
        if backends:
            self._changed.set()
            self._changed = asyncio.Event()

    def close(self) -> None:
        """End what is under way for nobody, and connections that are idle."""
        for task in self._shadows:
            task.cancel()
        self.place(())

    def observe(self, now_s: float) -> None:
        """Note how many requests are under way, for the mean of a window."""
        self._levels.append((now_s, self.under_way))

    def mean_in_flight(self, since_s: float) -> float:
        """The mean of what `observe` noted since then; what is under way now where that was nothing."""
        levels = [level for at_s, level in self._levels if at_s >= since_s]
        return sum(levels) / len(levels) if levels else float(self.under_way)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        call = Call(scope, receive, send)
        headers: list[tuple[bytes, bytes]] = []
        if self.door is not None and scope["server"][1] == self.door:
            headers.append((b"connection", b"close"))  # the port is another's now: the client is to connect there
        try:
            for guard in self._guards:
                guard(call)
            if call.path == "/metrics" and call.method == "GET":
                await call.reply(200, self.exposition().encode(), TEXT)
                return
            await self._answer(call, scope, headers)
        except Refused as refused:
            await self._refuse(call, refused, headers)
        except Gone:
            if not call.begun:
                await call.reply(400, b"")  # nobody reads it
        except Broken:
            raise  # in the middle of a stream: the end of the connection says that it is not whole
        except Exception as error:  # noqa: BLE001 - left to the server it would cost the connection; it is logged, with an id
            await self._refuse(call, failed(error), headers)

    async def _refuse(self, call: Call, refused: Refused, headers: list[tuple[bytes, bytes]]) -> None:
        if call.begun:
            raise refused
        told = [*headers, *((name.lower().encode(), value.encode()) for name, value in refused.headers.items())]
        await call.reply(refused.status, encoded(plain_error(refused)), headers=told)

    async def _answer(self, call: Call, scope: Mapping[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
        body = await call.body()
        message = _message(scope, body)
        asked = scope["path"] not in ("/health", "/metrics")
        if asked:
            self.asked_at_s = time.time()
            self.under_way += 1
        try:
            work = asyncio.ensure_future(self._reply(call, message))
            gone = asyncio.ensure_future(call.gone())
            try:
                await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise Gone
                await _pass_on(call, work.result(), headers)
            finally:
                work.cancel()
                gone.cancel()
        finally:
            if asked:
                self.under_way -= 1

    async def _reply(self, call: Call, message: bytes) -> Reply:
        repeatable = call.method == "GET" or call.path.startswith(REPEATABLE)
        side = self._side()
        if side == BEFORE and self.share.shadow and repeatable and call.method == "POST":
            self._shadow(message)
        end_s = time.monotonic() + self._deadline_s + SLACK_S
        counted = call.method == "POST"
        tried: set[Backend] = set()
        while True:
            backend = self._choose(side, tried) or await self._ready(side, tried, end_s)
            try:
                reply = await self._asked(backend, message, end_s, counted)
            except Broken as broken:
                tried.add(backend)
                if broken.sent and not repeatable:
                    raise self._later(503, "the replica ended before it answered") from broken
                self.repeated += 1
                continue
            if reply.status >= 500 and reply.status != 503 and repeatable and backend.side == OWN and self._is_trial(tried):
                tried.add(backend)
                side = BEFORE
                self.repeated += 1
                continue
            return reply

    def _is_trial(self, tried: set[Backend]) -> bool:
        return self.share.own < 1 and any(backend.side == BEFORE and backend not in tried for backend in self._backends)

    async def _asked(self, backend: Backend, message: bytes, end_s: float, counted: bool) -> Reply:
        """One question to one replica, counted for its side."""
        backend.in_flight += 1
        begun_s = time.monotonic()
        status = 500  # of what breaks
        try:
            async with asyncio.timeout(max(0.01, end_s - begun_s)):
                reply = await backend.upstream.ask(message)
            status = reply.status
            return reply
        except Broken as broken:
            backend.suspect = backend.suspect or not broken.sent
            raise
        except TimeoutError as error:
            what = "no answer within the deadline"
            raise Refused(504, what, value=self._deadline_s, fix="ask again, or less at once") from error
        except asyncio.CancelledError:
            counted = False  # the client went away
            raise
        finally:
            backend.in_flight -= 1
            if counted:
                self._count(backend.side, status, time.monotonic() - begun_s)

    def _count(self, side: str, status: int, latency_s: float) -> None:
        now_s = time.time()
        self.total[side].add(status, now_s, latency_s)
        if side == OWN:
            self.step.add(status, now_s, latency_s)

    def _side(self) -> str:
        return OWN if self.share.own >= 1 or self._random.random() < self.share.own else BEFORE

    def _choose(self, side: str, tried: set[Backend]) -> Backend | None:
        """The replica with the least under way; of the other side only where this one has none."""
        fit = [backend for backend in self._backends if backend not in tried and not backend.suspect]
        among = [backend for backend in fit if backend.side == side] or fit
        return min(among, key=lambda backend: (backend.in_flight, self._random.random()), default=None)

    async def _ready(self, side: str, tried: set[Backend], end_s: float) -> Backend:
        """Wait until a replica answers. Raises Refused when too many wait, or too long."""
        if self.held >= self._hold:
            raise self._later(503, "no replica answers yet, and too many requests wait")
        self.held += 1
        try:
            while True:
                changed = self._changed
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_S):
                        await changed.wait()
                if time.monotonic() > end_s - SLACK_S:
                    raise self._later(503, "no replica answered in time")
                tried.clear()
                backend = self._choose(side, tried)
                if backend is not None:
                    return backend
        finally:
            self.held -= 1

    def _later(self, status: int, what: str) -> Refused:
        self.refused += 1
        return Refused(status, what, value=self.held, fix="ask again later", headers={"Retry-After": str(self.retry_after_s)})

    def _shadow(self, message: bytes) -> None:
        """Ask this version too; nobody waits for what it says."""
        backend = self._choose(OWN, {backend for backend in self._backends if backend.side != OWN})
        if backend is None or len(self._shadows) >= SHADOWS:
            self.unshadowed += 1
            return
        task = asyncio.ensure_future(self._shadowed(backend, message))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadowed(self, backend: Backend, message: bytes) -> None:
        try:
            await self._asked(backend, message, time.monotonic() + self._deadline_s, counted=True)
        except (Broken, Refused):
            return  # it is counted, and nobody waits for it

    def exposition(self) -> str:
        """What Prometheus reads."""
        sides = [({**self._labels, "side": side}, count) for side, count in self.total.items()]
        ready = sum(backend.side == OWN and not backend.suspect for backend in self._backends)
        gauges = {
            "requests_in_flight": (self.under_way, "Requests under way, those that wait included."),
            "requests_held": (self.held, "Requests that wait for a replica."),
            "replicas": (ready, "Replicas that answer."),
            "replicas_wanted": (self.replicas_wanted, "Replicas that there are to be."),
            "rollout_share": (self.share.own, "The share of requests that this version answers."),
        }
        counters = {
            "requests_refused_total": (self.refused, "Requests that were told to ask again later."),
            "requests_repeated_total": (self.repeated, "Requests that were asked of another replica."),
            "answers_lost_total": (self.answers_lost, "Answers that were given and could not be remembered."),
        }
        return answered(sides) + numbers(self._labels, "gauge", gauges) + numbers(self._labels, "counter", counters)


def _message(scope: Mapping[str, Any], body: bytes) -> bytes:
    """A request as it goes over the wire."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in scope["headers"] if name.lower() not in HOP]
    lines.append(b"content-length: " + str(len(body)).encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def _pass_on(call: Call, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
    kept = [(name, value) for name, value in reply.headers if name not in HOP and name not in (b"content-type", b"date")]
    kind = next((value for name, value in reply.headers if name == b"content-type"), b"application/octet-stream")
    if reply.pieces is None:
        await call.reply(reply.status, reply.body, kind, [*headers, *kept])
        return
    await call.begin(kind)
    async for piece in reply.pieces:
        await call.piece(piece)
    await call.piece(b"", more=False)
