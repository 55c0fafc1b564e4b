"""Lineage: the way back from a version to all it came from, as a tree; a fold over records.

Does not know: answers (the flow joins them to the model version that gave them), or how a tree is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bedplate.core.clock import human_duration, iso
from bedplate.core.record import Records, RunRecord
from bedplate.core.versions import Version

_FACTS = ("rows", "quarantined", "table_version", "offsets", "features", "splits", "definition")


@dataclass(frozen=True)
class Node:
    """A node of the tree: what it is, its facts in reading order, and what it came from."""

    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Node, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {"title": self.title, "facts": dict(self.facts), "from": [child.to_json() for child in self.children]}

    def lines(self, indent: str = "") -> Iterator[str]:
        """The tree in plain text, one node or fact a line."""
        yield indent + self.title
        for name, value in self.facts.items():
            yield f"{indent}    {name}: {value}"
        for child in self.children:
            yield from child.lines(indent + "  ")


def trace(records: Records, version: Version, seen: frozenset[str] = frozenset()) -> Node:
    """The tree of a version: itself, the run that made it, and that run's inputs, down to the sources.

    A version that was shown further up is named without its tree.
    """
    title = f"{version.kind} {version.ref}  {version.digest[:12]}"
    if version.ref in seen:
        return Node(title + "  (above)")
    facts = {name: version.meta[name] for name in _FACTS if name in version.meta}
    run = records.runs.get(version.run)
    children = (trace_run(records, run, seen | {version.ref}),) if run is not None else ()
    return Node(title, facts, children)


def trace_run(records: Records, run: RunRecord, seen: frozenset[str] = frozenset()) -> Node:
    """A run with its code, environment, hardware and time, and the versions that it read."""
    code = run.made.get("code") or {}
    facts: dict[str, Any] = {"at": iso(run.created_at_s), "fingerprint": run.fingerprint[:12]}
    if run.duration_s is not None:
        facts["took"] = human_duration(run.duration_s)
    if code:
        dirty = f" + uncommitted changes {code['dirty'][:12]}" if code.get("dirty") else ""
        facts["code"] = f"{', '.join(code['files'])}  snapshot {code['snapshot'][:12]}"
        facts["commit"] = (code.get("commit") or "not a git repository") + dirty
    for name in ("environment", "hardware", "params"):
        if run.made.get(name):
            facts[name] = run.made[name]
    if len(run.attempts) > 1:
        facts["attempts"] = len(run.attempts)
    children = []
    for ref in run.made.get("inputs", {}).values():
        children.append(trace(records, records.version(ref), seen))
        seen = seen | {ref}
    return Node(f"run {run.id}  ({run.kind}, {run.status})", facts, tuple(children))
