"""Answers: where an endpoint's answers are kept, and how one is found again: in the lake, or in the stream that leads there.

Does not know: how an answer is made (`steps.endpoint`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from bedplate.core.errors import NotFound
from bedplate.core.spec import Dataset
from bedplate.data.streams.log import Log
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace

READ_RECORDS = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ID_BEFORE, ID_AFTER = timedelta(minutes=1), timedelta(minutes=10)  # between an id and the time that is kept with its answer

ANSWERS = Dataset(
    source="log://answers",
    key=("id",),
    known_at="at",
    columns={
        "id": "string",
        "at": "timestamp",
        "as_of": "timestamp",
        "endpoint": "string",
        "model": "string",
        "model_digest": "string",
        "run": "string",
        "request": "string",
        "features": "string",
        "prediction": "float",
        "latency_s": "float",
    },
)


def answers_table(endpoint: str) -> str:
    """The table of an endpoint's answers, which is also the topic of the stream that fills it."""
    return f"answers_{endpoint}"


def find_answer(workspace: Workspace, answer: str) -> Mapping[str, Any]:
    """The record of an answer by its id, `request` and `features` decoded. Raises NotFound."""
    lake = lake_of(workspace)
    for name in lake.names():
        if name.startswith("answers_") and not name.endswith("_quarantine"):
            for condition in (*_around(answer), pc.field("id") == answer):
                rows = lake.read(name, columns=list(ANSWERS.columns), filter=condition).to_pylist()
                if rows:
                    return _decoded(rows[0])
    for folder in sorted((workspace.state / "log").glob("answers_*")):
        record = _in_stream(Log(folder, workspace.clock), answer)
        if record is not None:
            return _decoded(record)
    raise NotFound("no answer, version or run of that name", value=answer, fix="an answer's `id` is in what the endpoint returned")


def _around(answer: str) -> list[pc.Expression]:
    """The condition that also says when: an id has its time in it (UUID version 7), so other files of the table need not be read."""
    try:
        known = UUID(answer)
    except ValueError:
        return []
    if known.version != 7:
        return []
    at = EPOCH + timedelta(milliseconds=known.int >> 80)
    bounds = [pa.scalar(at + apart, pa.timestamp("us", tz="UTC")) for apart in (-ID_BEFORE, ID_AFTER)]
    return [(pc.field("at") >= bounds[0]) & (pc.field("at") <= bounds[1]) & (pc.field("id") == answer)]


def _in_stream(log: Log, answer: str) -> dict[str, Any] | None:
    for partition, end in log.end_offsets().items():
        for start in range(0, end, READ_RECORDS):
            for record in log.read(partition, start, READ_RECORDS):
                if answer.encode() in record.value:
                    found: dict[str, Any] = json.loads(record.value)
                    if found["id"] == answer:
                        return found
    return None


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "request": json.loads(row["request"]), "features": json.loads(row["features"])}
