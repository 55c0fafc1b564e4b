"""The endpoint step: one replica. Looks features up in the online store, answers with the model, remembers what it said.

Does not know: HTTP (`serve.gateway`), or which version production is (the attempt's input says it).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock, duration_s, iso
from bedplate.core.errors import Busy
from bedplate.core.spec import Endpoint
from bedplate.data.ingest import ingest_stream
from bedplate.data.online.follow import Followed, Follower
from bedplate.data.online.keys import EPOCH
from bedplate.data.online.store import OnlineStore
from bedplate.flow.access import key_file
from bedplate.flow.answers import ANSWERS, answers_table
from bedplate.flow.lakes import lake_of
from bedplate.flow.lookup import Lookup
from bedplate.flow.online import open_live
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.flow.steps.functions import on_demand_views
from bedplate.flow.streams import stream_of
from bedplate.serve.answers import AnswerLog
from bedplate.serve.batching import Limits
from bedplate.serve.gateway import OPEN_PATHS, EndpointInfo, app
from bedplate.serve.keys import KeyGuard
from bedplate.serve.listen import bind, run
from bedplate.serve.runtimes.function import FunctionRuntime
from bedplate.train.bundle import ModelVersion

_LOG = logging.getLogger("bedplate.endpoint")


def work(attempt: Attempt) -> int:
    """Serve until told to stop; requests under way are answered and all answers stored first. Returns 0."""
    step = StepContext(attempt)
    model = step.version(attempt.spec["model"])
    features = step.version(f"{attempt.step}.features")
    store = open_live(step.path(features.name), attempt.out)
    lookup = Lookup(store, attempt.spec, {features.name: features.ref}, SystemClock(), [*on_demand_views(attempt.spec).values()])
    follower = _follower(step, store, features.meta)
    version = ModelVersion(step.path(model.name), digest=model.digest)
    runtime = FunctionRuntime(load_function(attempt.spec["predict"]), version)
    runtime.warm_up(lookup.empty_row())
    answers = _answer_log(step)

    def health() -> Mapping[str, Any]:
        return {**answers.health(), "behind": {name: asdict(lag) for name, lag in follower.lag().items()}}

    info = EndpointInfo(attempt.step, lookup.fields, model.ref, model.digest, attempt.run, attempt.token)
    application = app(info, lookup, runtime.predict, lambda record: answers.remember(_stored(record)), health, None, *_limits(step))
    socket = _bind(step)

    def ready(port: int) -> None:
        follower.start()
        write_json(_port_file(step), port)
        step.journal.write("ready", port=port)

    def ended() -> None:
        follower.close()
        answers.close()

    run(application, socket, ready, ended)
    return 0


def _limits(step: StepContext) -> tuple[Limits, KeyGuard | None]:
    """How much is answered at once, and who may ask."""
    declared = Endpoint.model_validate({"model": "any@any", **step.attempt.spec.get("limits", {})})
    limits = Limits(declared.batching.size, declared.batching.delay_s, declared.queue, duration_s(declared.deadline))
    return limits, KeyGuard(key_file(step.state), OPEN_PATHS) if declared.keys == "required" else None


def _follower(step: StepContext, store: OnlineStore, meta: Mapping[str, Any]) -> Follower:
    """Follows the streams among the store's datasets."""
    declared = {name: kept.dataset for name, kept in store.contents.datasets.items()}
    followed = {
        name: Followed(dataset, stream_of(dataset, step.state), meta["epochs"][name]) for name, dataset in declared.items() if dataset.topic
    }
    clock = SystemClock()
    return Follower(store, lake_of(step), followed, clock, lambda error: _LOG.error("features: %r", error))


def _stored(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: record[name] for name in ("id", "endpoint", "model", "run", "prediction", "latency_s")}
    texts = {name: json.dumps(record[name], sort_keys=True) for name in ("request", "features")}
    as_of = None if record["as_of"] is None else (EPOCH + timedelta(microseconds=round(record["as_of"] * 1e6))).isoformat()
    return {**kept, **texts, "at": iso(record["at"]), "as_of": as_of, "model_digest": record["digest"]}


def _answer_log(step: StepContext) -> AnswerLog:
    topic = answers_table(step.attempt.step)
    producer = f"{step.attempt.run}/{step.attempt.token}"
    return AnswerLog(step.log(topic), producer, drain=_drain(step, topic), on_error=lambda error: _LOG.error("answers: %r", error))


def _drain(step: StepContext, topic: str) -> Callable[[], int]:
    lake, stream = lake_of(step), step.log(topic)
    table = lake.table(topic)
    held = table.rows if table is not None else 0

    def drain() -> int:
        nonlocal held
        before = held
        held = int(ingest_stream(topic, ANSWERS, stream, topic, lake, lambda _done, _total: None).rows)
        return held - before

    return drain


def _port_file(step: StepContext) -> Path:
    return step.state / "endpoints" / f"{step.attempt.step}.json"


def _bind(step: StepContext) -> Any:
    declared = int(step.attempt.spec["port"])
    file = _port_file(step)
    kept = json.loads(file.read_text()) if file.exists() and not declared else declared
    try:
        return bind(kept)
    except Busy:
        if declared:
            raise
        return bind(0)  # somebody took the port that this endpoint had before
