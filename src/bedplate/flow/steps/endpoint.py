"""The endpoint step: one replica. Looks features up in the online store, answers with the model, remembers what it said.

Does not know: HTTP (`serve.gateway`), or which version production is (the attempt's input says it).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from socket import socket
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock, iso
from bedplate.data.online.follow import Followed, Follower
from bedplate.data.online.keys import EPOCH
from bedplate.data.online.store import OnlineStore
from bedplate.flow.answers import answers_table
from bedplate.flow.lakes import lake_of
from bedplate.flow.lookup import Lookup
from bedplate.flow.online import open_live
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.flow.steps.functions import on_demand_views
from bedplate.flow.steps.serving import bind_kept, drain, limits, port_file
from bedplate.flow.streams import stream_of
from bedplate.serve.answers import TALLY_FILE, AnswerLog
from bedplate.serve.gateway import EndpointInfo, app
from bedplate.serve.listen import bind, run
from bedplate.serve.runtimes.function import FunctionRuntime
from bedplate.train.bundle import ModelVersion

PORT_FILE = "port.json"
_LOG = logging.getLogger("bedplate.endpoint")


@dataclass(frozen=True)
class _Place:
    """Where a replica works: a folder of its own, the name under which it appends answers, whether it moves them to the table, its
    socket, and what is done once it answers.
    """

    out: Path
    producer: str
    drains: bool
    bind: Callable[[], socket]
    ready: Callable[[int], None]


def work(attempt: Attempt) -> int:
    """Serve until told to stop; requests under way are answered and all answers stored first. Returns 0."""
    step = StepContext(attempt)

    def ready(port: int) -> None:
        write_json(port_file(step), port)
        step.journal.write("ready", port=port)

    return _serve(step, _Place(attempt.out, f"{attempt.run}/{attempt.token}", True, lambda: bind_kept(step), ready))


def replica(attempt: Attempt, number: int) -> int:
    """The same behind a router, which asks at the port that is written to the replica's folder, and moves answers to the table."""
    step = StepContext(attempt, f"replica-{number}")
    out = attempt.out / f"replica-{number}"

    def ready(port: int) -> None:
        write_json(out / PORT_FILE, {"port": port, "pid": os.getpid()})

    return _serve(step, _Place(out, f"{attempt.run}/{attempt.token}/{number}", False, lambda: bind(0), ready))


def _serve(step: StepContext, place: _Place) -> int:
    attempt = step.attempt
    model = step.version(attempt.spec["model"])
    features = step.version(f"{attempt.step}.features")
    store = open_live(step.path(features.name), place.out)
    lookup = Lookup(store, attempt.spec, {features.name: features.ref}, SystemClock(), [*on_demand_views(attempt.spec).values()])
    follower = _follower(step, store, features.meta)
    version = ModelVersion(step.path(model.name), digest=model.digest)
    runtime = FunctionRuntime(load_function(attempt.spec["predict"]), version)
    runtime.warm_up(lookup.empty_row())
    answers = _answer_log(step, place)

    def health() -> Mapping[str, Any]:
        return {**answers.health(), "behind": {name: asdict(lag) for name, lag in follower.lag().items()}}

    info = EndpointInfo(attempt.step, lookup.fields, model.ref, model.digest, attempt.run, attempt.token)
    application = app(info, lookup, runtime.predict, lambda record: answers.remember(_stored(record)), health, None, *limits(step))

    def ready(port: int) -> None:
        follower.start()
        place.ready(port)

    def ended() -> None:
        follower.close()
        answers.close()

    run(application, place.bind(), ready, ended)
    return 0


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


def _answer_log(step: StepContext, place: _Place) -> AnswerLog:
    topic = answers_table(step.attempt.step)
    moved = drain(step, topic) if place.drains else lambda: 0
    place.out.mkdir(parents=True, exist_ok=True)
    tally = place.out / TALLY_FILE
    log = AnswerLog(step.log(topic), place.producer, drain=moved, on_error=lambda error: _LOG.error("answers: %r", error), tally=tally)
    if log.missed:
        text = f"{log.missed} answers of a process that was killed were not remembered"
        step.journal.write("message", text=text)
    return log
