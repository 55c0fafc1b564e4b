"""Lineage: the way back from a version to all it came from, as a tree; a fold over records.

What was shown once is only named where it comes again, and what every run of the tree has in common (environment, machine) stands at the
root, so a tree stays readable.
Does not know: answers (the flow joins them to the model version that gave them), or how a tree is shown.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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

    def text(self) -> str:
        """The tree in plain text, one node or fact a line."""
        return "\n".join([self.title, *self._below("")])

    def _below(self, indent: str) -> Iterator[str]:
        guide = indent + ("│   " if self.children else "    ")
        for name, value in self.facts.items():
            yield f"{guide}{name}: {_shown(value)}"
        for child in self.children:
            last = child is self.children[-1]
            yield f"{indent}{'└── ' if last else '├── '}{child.title}"
            yield from child._below(indent + ("    " if last else "│   "))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


class Tracer:
    """Builds trees from records. One instance builds one tree: it remembers what it has shown."""

    def __init__(self, records: Records) -> None:
        """`records` are read only."""
        self._records = records
        self._shown: set[str] = set()
        self._common: dict[str, Any] = {}

    def version(self, version: Version) -> Node:
        """A version, the run that made it, and that run's inputs, down to the sources."""
        title = f"{version.kind} {version.ref}  {version.digest[:12]}"
        if version.ref in self._shown:
            return Node(f"{title}  (shown above)")
        self._shown.add(version.ref)
        facts = {name: version.meta[name] for name in _FACTS if version.meta.get(name)}
        run = self._records.runs.get(version.run)
        return Node(title, facts, (self.run(run),) if run is not None else ())

    def run(self, run: RunRecord) -> Node:
        """A run with its code, environment, hardware and time, and the versions that it read."""
        title = f"run {run.id}  ({run.kind}, {run.status})"
        if run.id in self._shown:
            return Node(f"{title}  (shown above)")
        self._shown.add(run.id)
        inputs = (self._records.version(ref) for ref in run.made.get("inputs", {}).values())
        facts = {**_code(run), **self._surroundings(run), **_times(run)}
        return Node(title, facts, tuple(self.version(version) for version in inputs))

    def rooted(self, node: Node) -> Node:
        """The finished tree: `node` with what all its runs have in common."""
        return replace(node, facts={**node.facts, **self._common})

    def _surroundings(self, run: RunRecord) -> dict[str, Any]:
        """Environment and hardware, where they differ from those of the tree's first run."""
        facts = {name: run.made[name] for name in ("environment", "hardware") if run.made.get(name)}
        self._common = self._common or facts
        return {name: value for name, value in facts.items() if self._common.get(name) != value}


def trace(records: Records, version: Version) -> Node:
    """The tree of a version."""
    tracer = Tracer(records)
    return tracer.rooted(tracer.version(version))


def trace_run(records: Records, run: RunRecord) -> Node:
    """The tree of a run."""
    tracer = Tracer(records)
    return tracer.rooted(tracer.run(run))


def _code(run: RunRecord) -> dict[str, Any]:
    code = run.made.get("code")
    if not code:
        return {}
    dirty = f" + uncommitted changes {code['dirty'][:12]}" if code.get("dirty") else ""
    commit = (code.get("commit") or "not in a git work tree") + dirty
    return {"code": f"{', '.join(code['files'])}  snapshot {code['snapshot'][:12]}", "commit": commit}


def _times(run: RunRecord) -> dict[str, Any]:
    params = {"params": run.made["params"]} if run.made.get("params") else {}
    attempts = {"attempts": len(run.attempts)} if len(run.attempts) > 1 else {}
    took = "" if run.duration_s is None else f", took {human_duration(run.duration_s)}"
    return {**params, **attempts, "at": f"{iso(run.created_at_s)}{took}", "fingerprint": run.fingerprint[:12]}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
