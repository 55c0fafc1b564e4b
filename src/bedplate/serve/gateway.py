"""The gateway: one endpoint over HTTP. A request names what to answer about; features are looked up, a model answers, all is remembered.

    POST /predict       {field: value}                 -> {"id", "prediction", "model"}
                        {"instances": [{…}, …]}        -> {"ids": […], "predictions": […], "model"}     (KServe's V1 form)
    GET  /health        200 with the model's reference, what waits, and what became of the answers
    GET  /metrics       what was counted, as Prometheus reads it
    GET  /              what can be asked, with an example
    GET  /openapi.json  the same as OpenAPI 3.1; GET /docs is a page of it
    /v2/…               the Open Inference Protocol (`open_inference`)

Everything else is refused. Requests must come to a loopback name, as JSON: a web page cannot send one without asking first, and asking is
refused. Lookup and model run in a thread, for all requests at once that wait (`batching`); a line that is full is 503 with Retry-After, a
deadline that passed 504.
Does not know: features, models, where answers are kept, sockets.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bedplate.core.clock import Clock, SystemClock
from bedplate.core.errors import DataError, NotFound
from bedplate.serve.asgi import Application, Call, Gone, Guard, Refused, Route, loopback_only
from bedplate.serve.batching import Batcher, Full, Late, Left, Limits
from bedplate.serve.fields import Field, Fields, plain, shown
from bedplate.serve.metrics import TEXT, Meter, answered, numbers
from bedplate.serve.open_inference import described as inference_description
from bedplate.serve.open_inference import inference_error, inference_routes
from bedplate.serve.openapi import document, page

MAX_INSTANCES = 1000
OPEN_PATHS = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
_random = random.Random(os.urandom(32))  # noqa: S311 - ids must differ, not be secret; asking the kernel for each takes longer than the rest


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


Instance = Mapping[str, Any]
Lookup = Callable[[Sequence[Instance]], Sequence[Looked]]
Predict = Callable[[list[Mapping[str, Any]]], Sequence[float]]
Remember = Callable[[Mapping[str, Any]], None]


def app(
    endpoint: EndpointInfo,
    lookup: Lookup,
    predict: Predict,
    remember: Remember,
    health: Callable[[], Mapping[str, Any]] = dict,
    clock: Clock | None = None,
    limits: Limits | None = None,
    guard: Guard | None = None,
) -> Application:
    """The ASGI application of one endpoint.

    `lookup` finds the rows of all instances of a batch at once; it raises NotFound or DataError where it cannot, and both go to the
    caller. `predict` gives one finite number per row. Both are called in one thread of their own. `remember` takes one JSON record per
    answer and must not block. `health` says what became of the answers. `guard` says who may ask.
    """
    gateway = Gateway(endpoint, lookup, predict, remember, clock or SystemClock(), limits or Limits())
    description = {
        "endpoint": endpoint.name,
        "model": endpoint.model,
        "predict": "POST /predict",
        "fields": {each.name: each.type + ("" if each.required else ", may be null") for each in endpoint.fields},
        "example": dict(endpoint.example),
    }
    model, _, version = endpoint.model.partition("@")
    meter = Meter()

    async def root(call: Call) -> None:
        await call.reply_json(description)

    async def healthy(call: Call) -> None:
        told = {"status": "ready", "model": endpoint.model, "waiting": gateway.waiting, "answers": dict(health())}
        await call.reply_json(told)

    async def metrics(call: Call) -> None:
        await call.reply(200, _exposition(endpoint, meter, gateway.waiting, health()).encode(), TEXT)

    async def specification(call: Call) -> None:
        await call.reply_json(document(endpoint.name, endpoint.model, endpoint.fields, endpoint.example, routes))

    async def documentation(call: Call) -> None:
        text = page(document(endpoint.name, endpoint.model, endpoint.fields, endpoint.example, routes))
        policy = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
        await call.reply(200, text.encode(), b"text/html; charset=utf-8", [policy])

    routes = [
        Route("/", {"GET": root}, "what can be asked, with an example"),
        Route("/health", {"GET": healthy}, "whether it answers, and what became of the answers"),
        Route("/metrics", {"GET": metrics}, "what was counted, as Prometheus reads it"),
        Route("/predict", {"POST": gateway.predict}, "one prediction, or one for each of `instances`"),
        Route("/openapi.json", {"GET": specification}, "this description"),
        Route("/docs", {"GET": documentation}, "this description as a page"),
        *inference_routes(inference_description(model, version, endpoint.fields), gateway.answer),
    ]
    return Application(routes, [loopback_only, *([guard] if guard else [])], {"/v2": inference_error}, meter)


def _exposition(endpoint: EndpointInfo, meter: Meter, waiting: int, answers: Mapping[str, Any]) -> str:
    """As a router's, so that the same rules and dashboards are for endpoints with one replica and with many."""
    labels = {"endpoint": endpoint.name, "model": endpoint.model}
    gauges = {
        "requests_in_flight": (meter.in_flight, "Requests under way, those that wait included."),
        "rows_waiting": (waiting, "Rows that wait for a batch."),
        "replicas": (1, "Replicas that answer."),
        "replicas_wanted": (1, "Replicas that there are to be."),
    }
    counters = {
        "requests_refused_total": (meter.refused, "Requests that were told to ask again later."),
        "answers_lost_total": (answers.get("lost", 0), "Answers that were given and could not be remembered."),
    }
    return answered([({**labels, "side": "own"}, meter.count)]) + numbers(labels, "gauge", gauges) + numbers(labels, "counter", counters)


class Gateway:
    """One endpoint's way from instances to answers, whatever protocol they came in."""

    def __init__(self, endpoint: EndpointInfo, lookup: Lookup, predict: Predict, remember: Remember, clock: Clock, limits: Limits) -> None:
        self._endpoint = endpoint
        self._lookup = lookup
        self._predict = predict
        self._remember = remember
        self._clock = clock
        self._limits = limits
        self._fields = Fields(endpoint.fields)
        self._batcher: Batcher[Instance, tuple[Looked, float]] = Batcher(self._work, limits)

    @property
    def waiting(self) -> int:
        """Instances that wait for a batch."""
        return self._batcher.waiting

    async def predict(self, call: Call) -> None:
        """POST /predict."""
        body = await call.json()
        if "instances" in body and "instances" not in self._fields.declared:
            ids, predictions = await self.answer(call, _instances(body))
            await call.reply_json({"ids": ids, "predictions": predictions, "model": self._endpoint.model})
        else:
            ids, predictions = await self.answer(call, [body])
            await call.reply_json({"id": ids[0], "prediction": predictions[0], "model": self._endpoint.model})

    async def answer(self, call: Call, instances: Sequence[Instance]) -> tuple[list[str], list[float]]:
        """Check, look up, predict, remember. Raises Refused and Gone."""
        for instance in instances:
            self._fields.check(instance)
        begun_s = time.perf_counter()
        try:
            found = await self._batcher.answer(call.caller, instances, call.gone)
        except (NotFound, DataError) as error:
            status = 404 if isinstance(error, NotFound) else 422
            raise Refused(status, error.what, value=shown(error.value), fix=error.fix or "correct the request") from error
        except Full as full:
            wait = {"Retry-After": str(full.retry_after_s)}
            raise Refused(503, "too many requests wait", value=full.waiting, fix="ask again later, or less at once", headers=wait) from full
        except Late as late:
            raise Refused(504, "no answer within the deadline", value=self._limits.deadline_s, fix="ask again, or less at once") from late
        except Left as left:
            raise Gone from left
        latency_s = time.perf_counter() - begun_s
        now_s = self._clock.now()
        ids = [answer_id(now_s) for _ in instances]
        for identity, instance, (looked, prediction) in zip(ids, instances, found, strict=True):
            self._remember(self._record(identity, now_s, instance, looked, prediction, latency_s))
        return ids, [prediction for _, prediction in found]

    def close(self) -> bool:
        """End the thread. Returns whether it ended in time."""
        return self._batcher.close()

    def _work(self, instances: list[Instance]) -> list[tuple[Looked, float]]:
        looked = self._lookup(instances)
        predictions = self._predict([found.row for found in looked])
        return list(zip(looked, map(float, predictions), strict=True))

    def _record(
        self, identity: str, now_s: float, request: Instance, looked: Looked, prediction: float, latency_s: float
    ) -> dict[str, Any]:
        return {
            "id": identity,
            "at": now_s,
            "endpoint": self._endpoint.name,
            "request": dict(request),
            "features": {name: plain(value) for name, value in looked.row.items()},
            "versions": dict(looked.versions),
            "as_of": looked.as_of_s,
            "prediction": prediction,
            "model": self._endpoint.model,
            "digest": self._endpoint.digest,
            "run": self._endpoint.run,
            "attempt": self._endpoint.attempt,
            "latency_s": round(latency_s, 6),
        }


def _instances(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    instances = body["instances"]
    if len(body) > 1 or not isinstance(instances, list) or not all(isinstance(each, dict) for each in instances):
        raise Refused(400, '"instances" is a list of JSON objects, and alone', fix='send {"instances": [{...}, {...}]}')
    if not 0 < len(instances) <= MAX_INSTANCES:
        raise Refused(413, f"a request holds 1 to {MAX_INSTANCES} instances", value=len(instances), fix="send several requests")
    return instances


def answer_id(now_s: float) -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): ids sort by their millisecond, then by 12 bits of its fraction (method 3)."""
    milliseconds, fraction = divmod(int(now_s * 4_096_000), 4096)
    high = (milliseconds & (1 << 48) - 1) << 16 | 0x7000 | fraction
    low = _random.getrandbits(62) | 1 << 63
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
