"""Events: the append-only facts of the ledger. `KINDS` is the whole vocabulary; a record is never written, it is a fold over these.

An event's payload is a JSON object. Its digest, not its bytes, is in the chain, so a payload can be erased and the chain still holds.
Does not know: how events are stored (`ledger`) or what they add up to (`record`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS: Mapping[str, str] = {
    "launch.requested": "somebody asked for targets to be run or brought up",
    "launch.finished": "a launch ended: done, failed or stopped",
    "run.created": "a step of a launch is to be executed, with its fingerprint, inputs, code, environment and hardware",
    "attempt.started": "an engine was given an attempt of a run; its number is the fencing token",
    "attempt.ended": "an attempt is over, with its status and failure class",
    "attempt.restarted": "ranks of an attempt were replaced in place, under the same token",
    "attempt.noticed": "something was noticed that ends nothing by itself: a straggler, a hang's report, trouble with storage",
    "checkpoint.committed": "a checkpoint written under the current token exists from here on",
    "run.finished": "a run ended: succeeded, failed, cancelled or stopped; its outputs are versions",
    "version.created": "an immutable output exists",
    "evaluation.recorded": "a gate evaluated a candidate, and production, on one pinned set",
    "alias.moved": "an alias points to another version, by a recorded decision",
    "approval.given": "a person approved a version that the gate left waiting, with a reason, signed",
    "decision.waived": "an endpoint began to serve a version without a signed decision, because it is declared so",
    "key.trusted": "the decisions of another's signing key count from here on, with a reason",
    "watch.began": "a trigger was seen for the first time; schedules count from here",
    "watch.fired": "a trigger asked for a launch, and why",
    "version.removed": "the bytes of a version were deleted, by whom and why; its record stays",
    "version.tagged": "tags of a version were set or taken away",
    "artifact.trusted": "somebody vouched for one file that loading could run code of, by its SHA-256 and with a reason",
    "snapshot.taken": "the versions of all tables, views and files of a project were pinned under one name",
    "table.tagged": "a tag of a dataset's table points to a version",
    "table.rolled": "a dataset's table was rolled back to a version, and is held there",
    "table.released": "the rollback that held a dataset's table ended",
    "endpoint.started": "a replica of an endpoint was launched",
    "endpoint.ready": "a replica answers on its port",
    "endpoint.stopped": "a replica ended, with the reason",
    "rollout.began": "a new version of an endpoint began to take over by steps",
    "rollout.stepped": "a new version answers another share of requests from here on, and why",
    "rollout.ended": "a new version answers everything (`done`), or nothing any more (`back`), and why",
    "stop.requested": "somebody asked a run, or everything, to stop",
    "step.accepted": "somebody declared the present result of a step good, with a reason",
    "experiment.created": "a client of the tracking server made an experiment",
    "experiment.changed": "an experiment was renamed, tagged, deleted or restored",
    "run.logged": "a client of the tracking server began a run of its own; the loop does not drive it",
    "run.changed": "a client added params, tags, inputs or a status to a run; its metric points are in the series store",
    "candidate.logged": "a client logged a model below a run, in MLflow's sense",
    "candidate.changed": "a logged model was finished, tagged or deleted",
    "trace.recorded": "a client recorded a trace: its description, not its spans",
    "trace.changed": "a trace was tagged or deleted",
    "model.changed": "what the registry says of a model beyond its versions: description, tags, a new name, its removal",
    "payload.erased": "an event's payload was erased; its digest stays in the chain",
}

SCHEMA = 1


@dataclass(frozen=True)
class Draft:
    """An event before the ledger gave it a number. A `key` makes it idempotent: a second draft of the same key is not appended."""

    kind: str
    subject: str
    payload: Mapping[str, Any]
    key: str | None = None


@dataclass(frozen=True)
class Event:
    """An event of the ledger. `seq` counts from 1; `at_s` is seconds since the epoch; `digest` is its link of the chain."""

    seq: int
    at_s: float
    kind: str
    schema: int
    subject: str
    key: str | None
    payload: Mapping[str, Any]
    digest: str
    erased: bool = False
