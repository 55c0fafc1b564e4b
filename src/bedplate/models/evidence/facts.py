"""The facts that evidence is written from: one model version, and all that it came from.

Does not know: where they were read, or what is written of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bedplate.core.record import AliasMove, RunRecord
from bedplate.core.versions import Version

PRODUCER = "https://bedplate.dev"
PERSON = "_For a person to write._"


@dataclass(frozen=True)
class Column:
    """A column of a table: its type, how many values are missing, and the range of numbers and times (of text: how long it is)."""

    name: str
    type: str
    nulls: int
    least: str = ""
    most: str = ""
    distinct: int | None = None


@dataclass(frozen=True)
class Sheet:
    """What is known of one table: its cut, columns, source, and what the project declares of it. An empty text was not declared."""

    version: Version
    columns: tuple[Column, ...]
    source: str
    key: tuple[str, ...] = ()
    known_at: str = ""
    backfill: str = ""
    subject: str = ""
    license: str = ""
    residency: str = ""
    declared: Mapping[str, str] = field(default_factory=dict)
    columns_unread: str = ""  # why there are none


@dataclass(frozen=True)
class Spent:
    """Estimated cost of one run: wall seconds of its attempts, device hours, energy in kWh and price in US dollars where known."""

    run: str
    step: str
    seconds: float
    device: str
    device_hours: float
    energy_kwh: float | None
    price_usd: float | None
    how: str


@dataclass(frozen=True)
class Facts:
    """All of it. `versions` and `runs` are the version and what it came from, newest first; `dependencies` name -> installed version.

    `manifest` is the version's, whose SHA-256 is the version's digest; `evaluation` the newest of this version, `decisions` the moves of
    aliases to it.
    """

    project: str
    ledger: str
    version: Version
    versions: tuple[Version, ...]
    runs: tuple[RunRecord, ...]
    manifest: bytes
    signature: Mapping[str, Any] = field(default_factory=dict)
    dependencies: Mapping[str, str] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    decisions: Sequence[tuple[str, AliasMove]] = ()
    sheets: tuple[Sheet, ...] = ()
    spent: tuple[Spent, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    license: str = ""
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def run(self) -> RunRecord | None:
        """The run that made the version; None for one that was imported."""
        return next((run for run in self.runs if run.id == self.version.run), None)


def digest_of(version: Version) -> dict[str, str]:
    """A version's digest by the name of its algorithm: single files have BLAKE3, all else SHA-256 (of a manifest or a canonical form)."""
    return {"blake3" if version.kind == "file" else "sha256": version.digest}


def number(value: object) -> str:
    """A number for people: six significant digits; anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; a bar in a cell cannot end it."""
    cells = [[number(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, *rows)]
    lines = [cells[0], ["---"] * len(header), *cells[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
