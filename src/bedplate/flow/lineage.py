"""Lineage of anything that has a name: an answer, a version, a run.

An answer leads to its endpoint's run, the model version and the decision that put it there, the feature values that it was given, and
from there all the way back to table cuts, offsets, code and hardware.
Does not know: how a tree is shown.
"""

from __future__ import annotations

from itertools import chain, islice

from bedplate.core.errors import NotFound, nearest
from bedplate.core.lineage import Node, Tracer, trace, trace_run
from bedplate.core.record import Records
from bedplate.core.versions import Version
from bedplate.flow.answers import find_answer
from bedplate.flow.workspace import Workspace

COMPARED = 2_000  # names among which one that was mistyped is looked for


def lineage(workspace: Workspace, name: str) -> Node:
    """The tree behind `name`. Raises NotFound when nothing has it."""
    records = workspace.records
    if "@" in name or name in records.versions:
        return trace(records, records.version(name))
    run = records.runs.get(name) or records.newest(name)
    if run is not None:
        return trace_run(records, run)
    try:
        return _answer(workspace, name)
    except NotFound as error:
        near = nearest(name, islice(chain(records.versions, records.runs), COMPARED))
        raise NotFound(error.what, value=name, fix=f"{error.fix}; {near}") from error


def _answer(workspace: Workspace, name: str) -> Node:
    answer = find_answer(workspace, name)
    records = workspace.records
    version = records.version(answer["model"])
    tracer = Tracer(records)
    facts = {
        "at": answer["at"],
        "prediction": answer["prediction"],
        "request": answer["request"],
        "features as served": answer["features"],
        "latency": f"{answer['latency_s'] * 1000:.1f} ms",
    }
    decided = _decision(records, version)
    children = (*((decided,) if decided else ()), tracer.version(version), _endpoint(records, answer["run"], tracer))
    return tracer.rooted(Node(f"answer {answer['id']}", facts, children))


def _endpoint(records: Records, run: str, tracer: Tracer) -> Node:
    record = records.runs[run]
    tree = tracer.run(record)
    return Node(f"endpoint {record.step} on 127.0.0.1:{record.port}, {tree.title}", tree.facts, tree.children)


def _decision(records: Records, version: Version) -> Node | None:
    for alias, moves in records.moves(version.name).items():
        move = next((move for move in reversed(moves) if move.version == version.number), None)
        if move is not None:
            facts = {"by": move.decision["by"], "why": move.decision.get("why", "")}
            evaluation = records.evaluations.get(version.name, {})
            if evaluation.get("candidate") == version.ref:
                facts |= {"metrics": evaluation["metrics"], "pinned set": evaluation["pinned_set"]}
            return Node(f"decision {version.ref} -> {alias}", facts)
    return None
