"""Versions: immutable outputs, `name@number`, named by the digest of their content.

Does not know: how bytes are stored; `location` is a path below the state folder, or below the project for a declared file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

VersionKind = Literal["table", "stream", "file", "files", "view", "training_set", "model", "online"]


@dataclass(frozen=True)
class Output:
    """What a worker says it made: a version before it has a number. `meta` holds JSON facts (rows, offsets, metrics…)."""

    name: str
    kind: VersionKind
    digest: str
    location: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for the journal."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Output:
        """The inverse of `to_json`."""
        return Output(values["name"], values["kind"], values["digest"], values["location"], dict(values["meta"]))


@dataclass(frozen=True)
class Version:
    """An immutable output with its number. `run` made it; equal content made again is the same version."""

    name: str
    number: int
    kind: VersionKind
    digest: str
    location: str
    run: str
    created_at_s: float
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """`name@number`, as people write it."""
        return f"{self.name}@{self.number}"

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for attempts and events."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Version:
        """The inverse of `to_json`."""
        return Version(**{**values, "meta": dict(values["meta"])})
