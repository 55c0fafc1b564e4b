"""Lineage of anything that has a name: an answer, a version, a run.

An answer leads to its endpoint's run, the model version and the decision that put it there, the feature values that it was given, and
from there all the way back to table cuts, offsets, code and hardware.
Does not know: how a tree is shown.
"""

from __future__ import annotations

from bedplate.core.errors import NotFound
from bedplate.core.lineage import Node, trace, trace_run
from bedplate.core.record import Records
from bedplate.flow.answers import find_answer
from bedplate.flow.workspace import Workspace


def lineage(workspace: Workspace, name: str) -> Node:
    """The tree behind `name`. Raises NotFound when nothing has it."""
    records = workspace.records
    try:
        return trace(records, records.version(name))
    except NotFound:
        if name in records.runs:
            return trace_run(records, records.runs[name])
    return _answer(workspace, name)


def _answer(workspace: Workspace, name: str) -> Node:
    answer = find_answer(workspace, name)
    records = workspace.records
    facts = {
        "at": answer["at"],
        "prediction": answer["prediction"],
        "request": answer["request"],
        "features as served": answer["features"],
        "latency": f"{answer['latency_s'] * 1000:.1f} ms",
    }
    version = records.version(answer["model"])
    children = [_endpoint(records, answer["run"], version.ref), _decision(records, version.name, version.number), trace(records, version)]
    return Node(f"answer {answer['id']}", facts, tuple(child for child in children if child is not None))


def _endpoint(records: Records, run: str, model: str) -> Node:
    record = records.runs[run]
    tree = trace_run(records, record)
    kept = tuple(child for child in tree.children if f" {model} " not in f"{child.title} ")
    return Node(f"endpoint {record.step}  run {run}, http://127.0.0.1:{record.port}", tree.facts, kept)


def _decision(records: Records, model: str, number: int) -> Node | None:
    for (name, alias), moves in records.aliases.items():
        for move in reversed(moves):
            if name == model and move.version == number:
                evaluation = records.evaluations.get(model, {})
                facts = {"by": move.decision["by"], "why": move.decision.get("why", "")}
                if evaluation.get("candidate") == f"{model}@{number}":
                    facts |= {"metrics": evaluation["metrics"], "pinned set": evaluation["pinned_set"]}
                return Node(f"decision {model}@{number} -> {alias}", facts)
    return None
