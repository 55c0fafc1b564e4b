"""The endpoint step: one replica. Looks features up in the online store, answers with the model, remembers what it said.

Does not know: HTTP (`serve.gateway`), or which version production is (the attempt's input says it).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.clock import iso
from bedplate.core.errors import Busy, NotFound
from bedplate.core.spec import Dataset, Inputs
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.online import OnlineStore, model_value
from bedplate.flow.answers import ANSWERS, answers_table
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.serve.answers import AnswerLog
from bedplate.serve.gateway import EndpointInfo, Field, Looked, app
from bedplate.serve.listen import bind, run
from bedplate.serve.runtimes.function import FunctionRuntime
from bedplate.train.bundle import ModelVersion

_LOG = logging.getLogger("bedplate.endpoint")


def work(attempt: Attempt) -> int:
    """Serve until told to stop; requests under way are answered and all answers stored first. Returns 0."""
    step = StepContext(attempt)
    model = step.version(attempt.spec["model"])
    store = step.version(f"{attempt.step}.features")
    lookup = Lookup(OnlineStore(step.path(store.name)), attempt.spec, {store.name: store.ref})
    version = ModelVersion(step.path(model.name), digest=model.digest)
    runtime = FunctionRuntime(load_function(attempt.spec["predict"]), version)
    runtime.warm_up(lookup.empty_row())
    answers = _answer_log(step)
    columns = Dataset.model_validate(attempt.spec["spine"]).columns
    key = attempt.spec["spine"]["key"]
    fields = tuple(Field(name, columns.get(name, "string")) for name in key)
    info = EndpointInfo(attempt.step, fields, model.ref, model.digest, attempt.run, attempt.token)
    application = app(info, lookup, runtime.predict, lambda record: answers.remember(_stored(record)), answers.health)
    socket = _bind(step)

    def ready(port: int) -> None:
        write_json(_port_file(step), port)
        step.journal.write("ready", port=port)

    def ended() -> None:
        answers.close()

    run(application, socket, ready, ended)
    return 0


class Lookup:
    """From a request's key to the row that the model is given: the spine's own row, and each feature as of that row's time."""

    def __init__(self, store: OnlineStore, spec: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """`spec` is the endpoint step's; `versions` are the references of what is read."""
        self._store = store
        self._inputs = Inputs.model_validate(spec["inputs"])
        self._key: list[str] = spec["spine"]["key"]
        self._views: Mapping[str, Mapping[str, Any]] = spec["views"]
        self._versions = versions

    def __call__(self, request: Mapping[str, Any]) -> Looked:
        """Look one request up. Raises NotFound when the spine has no such row, and DataError for a field of another type."""
        key = {name: request[name] for name in self._key}
        found = self._store.row(self._inputs.spine, key)
        if found is None:
            fix = f"ask for a row that is in {self._inputs.spine!r}, or bring newer ones in: `bedplate up`"
            raise NotFound(f"{self._inputs.spine!r} has no row with this key", value=json.dumps(key), fix=fix)
        at = found["_known_at"]
        assert isinstance(at, datetime)
        row = {name: model_value(found[name]) for name in self._inputs.columns}
        for view, facts in self._views.items():
            entity = {name: found[name] for name in facts["entity"]}
            own = key if facts["key"] == self._key else None
            row |= {name: model_value(value) for name, value in self._store.features(view, entity, at, own).items()}
        return Looked(row, self._versions)

    def empty_row(self) -> dict[str, Any]:
        """A row in which nothing is known, for the first call of a model."""
        row: dict[str, Any] = dict.fromkeys(self._inputs.columns)
        for view, facts in self._views.items():
            row |= self._store.features(view, dict.fromkeys(facts["entity"]), datetime(2000, 1, 1, tzinfo=UTC))
        return row


def _stored(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: record[name] for name in ("id", "endpoint", "model", "run", "prediction", "latency_s")}
    texts = {name: json.dumps(record[name], sort_keys=True) for name in ("request", "features")}
    return {**kept, **texts, "at": iso(record["at"]), "model_digest": record["digest"]}


def _answer_log(step: StepContext) -> AnswerLog:
    topic = answers_table(step.attempt.step)
    producer = f"{step.attempt.run}/{step.attempt.token}"
    return AnswerLog(step.log(topic), producer, drain=_drain(step, topic), on_error=lambda error: _LOG.error("answers: %r", error))


def _drain(step: StepContext, topic: str) -> Callable[[], int]:
    lake, stream = Lake(step.state / "lake"), step.log(topic)
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
