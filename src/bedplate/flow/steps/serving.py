"""What the two ways to serve share: one replica (`steps.endpoint`), or a router before several (`steps.routing`), and which it is.

It must import quickly: the router has no use for what a model needs.
Does not know: models, features, HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from socket import socket

from bedplate.core.attempt import Attempt
from bedplate.core.clock import duration_s
from bedplate.core.errors import Busy
from bedplate.core.loading import Entry, load
from bedplate.core.spec import Endpoint
from bedplate.data.ingest import ingest_stream
from bedplate.flow.access import key_file
from bedplate.flow.answers import ANSWERS
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps.context import StepContext
from bedplate.serve.batching import Limits
from bedplate.serve.gateway import OPEN_PATHS
from bedplate.serve.keys import KeyGuard
from bedplate.serve.listen import bind

WAYS: Mapping[str, Entry] = {
    "replica": Entry("bedplate.flow.steps.endpoint:work", "one process that answers", "torch"),
    "router": Entry("bedplate.flow.steps.routing:work", "a router before as many replicas as are wanted"),
}


def work(attempt: Attempt) -> int:
    """Serve until told to stop. Returns 0."""
    way: Callable[[Attempt], int] = load(WAYS, "router" if declared(attempt).routed else "replica", "way to serve")
    return way(attempt)


def declared(attempt: Attempt) -> Endpoint:
    """What the project declares of the endpoint, but for its model."""
    return Endpoint.model_validate({"model": "any@any", **attempt.spec.get("limits", {}), **attempt.spec.get("scaling", {})})


def limits(step: StepContext) -> tuple[Limits, KeyGuard | None]:
    """How much is answered at once, and who may ask."""
    said = declared(step.attempt)
    guard = KeyGuard(key_file(step.state), OPEN_PATHS) if said.keys == "required" else None
    return Limits(said.batching.size, said.batching.delay_s, said.queue, duration_s(said.deadline)), guard


def drain(step: StepContext, topic: str) -> Callable[[], int]:
    """What moves new records of the stream `topic` to its table, and says how many it moved."""
    lake, stream = lake_of(step), step.log(topic)
    table = lake.table(topic)
    held = table.rows if table is not None else 0

    def moved() -> int:
        nonlocal held
        before = held
        held = int(ingest_stream(topic, ANSWERS, stream, topic, lake, lambda _done, _total: None).rows)
        return held - before

    return moved


def port_file(step: StepContext) -> Path:
    """Where an endpoint that took a free port keeps it."""
    return step.state / "endpoints" / f"{step.attempt.step}.json"


def bind_kept(step: StepContext) -> socket:
    """A socket on the endpoint's port: the declared one, or that of before. Raises Busy when a stranger has the declared one."""
    asked = int(step.attempt.spec["port"])
    file = port_file(step)
    kept = json.loads(file.read_text()) if file.exists() and not asked else asked
    try:
        return bind(kept)
    except Busy:
        if asked:
            raise
        return bind(0)  # somebody took the port that this endpoint had before
