"""The canary: whether an endpoint answers requests, before anybody relies on it.

Requests are those of a file, or rows of the endpoint's own spine, newest first: what was asked lately is asked again.
Does not know: whether an answer is right; a request of a file may say between which numbers it must lie.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bedplate.core.clock import iso
from bedplate.core.errors import DataError, NotFound, Unavailable, nearest
from bedplate.core.settings import key_headers
from bedplate.data.cut import read_cut
from bedplate.flow.facts import serving
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace

TIMEOUT_S = 30.0
BETWEEN = "between"  # of a request in a file: [least, most] of its prediction


@dataclass(frozen=True)
class Canary:
    """What came of `asked` requests to the version `model`: what `failed`, in words, and the latency of the slowest percent in seconds."""

    endpoint: str
    model: str
    asked: int
    failed: tuple[str, ...]
    latency_p99_s: float


def check(workspace: Workspace, endpoint: str, count: int, file: Path | None = None, latency_s: float | None = None) -> Canary:
    """Ask `endpoint` up to `count` requests, from `file` (one JSON object a line) or from its spine. With `latency_s`: p99 must be below.

    Raises NotFound for no such endpoint, Unavailable for one that is not up, DataError when there is nothing to ask.
    """
    declared = workspace.project.spec.endpoints
    if endpoint not in declared:
        raise NotFound("the project declares no such endpoint", value=endpoint, fix=nearest(endpoint, declared))
    live = serving(workspace, endpoint)
    if not live:
        raise Unavailable("the endpoint is not up", value=endpoint, fix=f"bring it up: `bedplate up {endpoint}`")
    with httpx.Client(base_url=f"http://127.0.0.1:{live[-1].port}", headers=key_headers(), timeout=TIMEOUT_S, trust_env=False) as client:
        described = _described(client, endpoint)
        requests = _of_file(file, count) if file is not None else _of_spine(workspace, endpoint, described["fields"], count)
        if not requests:
            raise DataError("there is no request to ask the endpoint", value=endpoint, fix="give --file with one JSON object a line")
        asked = [_asked(client, request) for request in requests]
    p99_s = float(np.percentile([taken_s for _, taken_s in asked], 99))
    failed = [why for why, _ in asked if why]
    if latency_s is not None and p99_s > latency_s:
        failed.append(f"the slowest percent takes {p99_s:.3g} s, more than {latency_s:.3g} s")
    return Canary(endpoint, described["model"], len(asked), tuple(failed), p99_s)


def _described(client: httpx.Client, endpoint: str) -> dict[str, Any]:
    """What the endpoint says of itself; it must be healthy."""
    try:
        health = client.get("/health")
        described: dict[str, Any] = client.get("/").json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable("the endpoint does not answer", value=str(error), fix=f"see `bedplate logs {endpoint}`") from error
    if health.status_code != 200:
        raise Unavailable("the endpoint is not healthy", value=health.text[:200], fix=f"see `bedplate logs {endpoint}`")
    return described


def _asked(client: httpx.Client, request: Mapping[str, Any]) -> tuple[str, float]:
    """What is wrong with the answer to one request (empty: nothing), and how long it took in seconds."""
    body = {name: value for name, value in request.items() if name != BETWEEN}
    shown = json.dumps(body)[:120]
    try:
        response = client.post("/predict", json=body)
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        return f"{shown}: no answer ({error})", TIMEOUT_S
    taken_s = response.elapsed.total_seconds()
    if response.status_code != 200:
        return f"{shown}: {response.status_code} {answer.get('error', {}).get('what', '')}".rstrip(), taken_s
    prediction = answer.get("prediction")
    if not isinstance(prediction, int | float) or not math.isfinite(prediction):
        return f"{shown}: the prediction is {prediction!r}", taken_s
    least, most = request.get(BETWEEN, (-math.inf, math.inf))
    return ("" if least <= prediction <= most else f"{shown}: the prediction {prediction:.6g} is not within [{least}, {most}]"), taken_s


def _of_file(file: Path, count: int) -> list[dict[str, Any]]:
    try:
        found = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise NotFound("no such file of requests", value=str(file), fix="write one JSON object a line") from error
    except ValueError as error:
        raise DataError("a line of the requests is no JSON", value=str(file), fix="write one JSON object a line") from error
    return found[:count]


def _of_spine(workspace: Workspace, endpoint: str, fields: Mapping[str, str], count: int) -> list[dict[str, Any]]:
    """The newest rows of the endpoint's spine, cut down to what a request holds."""
    spec = workspace.project.spec
    job = spec.jobs[spec.trained[spec.endpoints[endpoint].model.partition("@")[0]].from_]
    spine = getattr(job.inputs, "spine", "")
    version = workspace.records.version(spine)
    table = read_cut(lake_of(workspace), spine, version.meta["table_version"], spec.datasets[spine])
    columns = [name for name in fields if name in table.column_names]
    rows: Sequence[Mapping[str, Any]] = table.select(columns).slice(max(0, table.num_rows - count)).to_pylist()
    return [dict(_plain(row)) for row in reversed(rows)]


def _plain(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        yield name, iso(value.timestamp()) if isinstance(value, datetime) else value
