"""Seeded edits of what a project keeps: bytes, fields, deletions and swaps of artifacts, manifests, decisions, events and evidence.

Each edit says by which name verifying must find it. A specimen is a project that was brought up; every edit is undone.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedplate.core.digest import canonical, digest_bytes
from bedplate.core.errors import BedplateError
from bedplate.core.ledger import _link_digest
from bedplate.flow.auditing import audit_artifacts, audit_project
from bedplate.models.evidence.verifying import verify_folder

KEPT = ("model", "training_set", "view")


@dataclass(frozen=True)
class Edit:
    """What was done: to which kind of thing, how, where; and what the finding must name (one of these)."""

    area: str
    how: str
    where: str
    named: tuple[str, ...]


@dataclass
class Specimen:
    """A project that stands still, its evidence folder, and copies of both."""

    project: Path
    evidence: Path
    copies: Path
    signed_through: int = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = self.project / ".bedplate" / "ledger.db"
        with closing(sqlite3.connect(self.ledger)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.signed_through = database.execute("SELECT max(seq) FROM heads").fetchone()[0]
        shutil.copytree(self.evidence, self.copies / "evidence")
        shutil.copyfile(self.ledger, self.copies / "ledger.db")

    def artifacts(self) -> list[Path]:
        """The files that the ledger answers for."""
        state = self.project / ".bedplate"
        runs = [path for name in KEPT for path in state.glob(f"runs/*/*/out/{name}/**/*") if path.is_file()]
        return sorted([*runs, *(path for path in state.glob("code/*/**/*") if path.is_file())])

    def found(self, edit: Edit) -> list[str]:
        """What verifying says that is wrong."""
        if edit.area == "evidence":
            return [f"{finding.what} {finding.why}" for finding in verify_folder(self.evidence) if not finding.holds]
        try:
            audit_project(self.project)
        except BedplateError as error:
            return [error.one_line()]
        return [f"{each.version} {each.place} {each.why}" for each in audit_artifacts(self.project) if not each.holds]


@contextmanager
def tampered(specimen: Specimen, seed: int) -> Iterator[Edit]:
    """One edit, undone at the end."""
    draw = random.Random(seed)
    area = draw.choice(["artifact", "manifest", "event", "event", "decision", "head", "evidence", "evidence"])
    if area in ("event", "decision", "head"):
        try:
            with closing(sqlite3.connect(specimen.ledger, isolation_level=None)) as database:
                edit = (
                    _event(database, specimen, draw)
                    if area == "event"
                    else _decision(database, draw)
                    if area == "decision"
                    else _head(database, draw)
                )
            yield edit
        finally:
            for name in ("ledger.db-wal", "ledger.db-shm"):
                specimen.ledger.with_name(name).unlink(missing_ok=True)
            shutil.copyfile(specimen.copies / "ledger.db", specimen.ledger)
        return
    files = sorted(path for path in specimen.evidence.rglob("*") if path.is_file()) if area == "evidence" else specimen.artifacts()
    if area == "manifest":
        files = [path for path in files if path.name in ("manifest.json", "view.json")]
    with _restored(path := draw.choice(files), other := draw.choice(files)):
        name = path.relative_to(specimen.evidence if area == "evidence" else specimen.project / ".bedplate").as_posix()
        how, also = _file(path, other, draw)
        named = [_name_of(each, specimen, area) for each in (path, *([other] if also else []))]
        yield Edit(area, how, name, tuple(named))
    for extra in specimen.evidence.rglob("added-*"):
        extra.unlink()


def _name_of(path: Path, specimen: Specimen, area: str) -> str:
    if area == "evidence":
        return path.relative_to(specimen.evidence).as_posix()
    parts = path.relative_to(specimen.project / ".bedplate").parts
    return parts[1] if parts[0] == "code" else "/".join(parts[:5])  # the folder of the version


@contextmanager
def _restored(*paths: Path) -> Iterator[None]:
    kept = {path: path.read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def _file(path: Path, other: Path, draw: random.Random) -> tuple[str, bool]:
    """Change a file; says how, and whether the other one was changed too."""
    data = path.read_bytes()
    ways = ["flip", "flip", "delete", "cut", "grow"]
    ways += ["swap"] if other.read_bytes() != data else []
    ways += ["field", "field"] if path.suffix in (".json", ".sig") else []
    how = draw.choice(ways if data else ["grow", "delete"])
    if how == "flip":
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
    elif how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: draw.randrange(len(data))])
    elif how == "grow":
        path.write_bytes(data + draw.choice([b" ", b"\n", b"\0", b"x" * 100]))
    elif how == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    else:
        path.write_text(json.dumps(_changed(json.loads(data), draw), indent=1, sort_keys=True) + "\n")
    return how, how == "swap"


def _changed(value: Any, draw: random.Random) -> Any:
    """The same JSON with one leaf that is another."""
    if isinstance(value, dict) and value:
        name = draw.choice(sorted(value))
        return {**value, name: _changed(value[name], draw)}
    if isinstance(value, list) and value:
        place = draw.randrange(len(value))
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + draw.choice([1, -1, 1000])
    return f"{value}x" if isinstance(value, str) else ["x"]


def _event(database: sqlite3.Connection, specimen: Specimen, draw: random.Random) -> Edit:
    seq = draw.randint(1, specimen.signed_through)
    ways: dict[str, Callable[[], tuple[str, ...]]] = {
        "payload": lambda: _payload(database, seq, draw, draw.choice(["plain", "digest", "link", "all"])),
        "column": lambda: _column(database, seq, draw),
        "delete": lambda: _delete(database, seq),
        "swap": lambda: _swap(database, specimen, seq, draw),
        "erase": lambda: _said(database.execute("UPDATE events SET payload = NULL WHERE seq = ?", (seq,)), f"event {seq} "),
        "cut": lambda: _said(database.execute("DELETE FROM events WHERE seq >= ?", (seq,)), "event "),
    }
    how = draw.choice(sorted(ways))
    return Edit("event", how, str(seq), ways[how]())


def _said(_: object, *named: str) -> tuple[str, ...]:
    return named


def _decision(database: sqlite3.Connection, draw: random.Random) -> Edit:
    rows = database.execute("SELECT seq FROM events WHERE kind IN ('alias.moved', 'evaluation.recorded') ORDER BY seq").fetchall()
    [seq] = draw.choice(rows)
    depth = draw.choice(["plain", "digest", "link", "all"])
    return Edit("decision", depth, str(seq), _payload(database, seq, draw, depth))


def _payload(database: sqlite3.Connection, seq: int, draw: random.Random, depth: str) -> tuple[str, ...]:
    """Another payload, with as much of the chain made to fit as the forger cares to: nothing, its digest, its link, all links after it."""
    (payload,) = database.execute("SELECT payload FROM events WHERE seq = ?", (seq,)).fetchone()
    changed = _changed(json.loads(payload), draw)
    data = canonical(changed if isinstance(changed, dict) and changed else {"x": 1})
    database.execute("UPDATE events SET payload = ? WHERE seq = ?", (data, seq))
    if depth == "plain":
        return (f"event {seq} ",)
    database.execute("UPDATE events SET payload_digest = ? WHERE seq = ?", (digest_bytes(data), seq))
    if depth == "digest":
        return (f"event {seq} ",)
    last = seq if depth == "link" else database.execute("SELECT max(seq) FROM events").fetchone()[0]
    for each in range(seq, last + 1):
        _relink(database, each)
    return (f"event {seq + 1} ", f"before event {seq} ") if depth == "link" else ("event ",)


def _relink(database: sqlite3.Connection, seq: int) -> None:
    before = database.execute("SELECT digest FROM events WHERE seq = ?", (seq - 1,)).fetchone()
    (identity,) = database.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()
    previous = before[0] if before else digest_bytes(identity.encode())
    *row, payload_digest = database.execute(
        "SELECT seq, at_ms, kind, schema, subject, key, payload_digest FROM events WHERE seq = ?", (seq,)
    ).fetchone()
    database.execute("UPDATE events SET digest = ? WHERE seq = ?", (_link_digest(previous, tuple(row), payload_digest), seq))


def _column(database: sqlite3.Connection, seq: int, draw: random.Random) -> tuple[str, ...]:
    column, value = draw.choice(
        [
            ("at_ms", "at_ms + 1"),
            ("kind", "kind || 'x'"),
            ("schema", "schema + 1"),
            ("subject", "subject || 'x'"),
            ("key", "coalesce(key, '') || 'x'"),
            ("payload_digest", "replace(payload_digest, substr(payload_digest, 1, 1), 'x')"),
            ("digest", "replace(digest, substr(digest, 1, 1), 'x')"),
        ]
    )
    database.execute(f"UPDATE events SET {column} = {value} WHERE seq = ?", (seq,))
    return (f"event {seq} ",)


def _delete(database: sqlite3.Connection, seq: int) -> tuple[str, ...]:
    database.execute("DELETE FROM events WHERE seq = ?", (seq,))
    return (f"event {seq} ",)


def _swap(database: sqlite3.Connection, specimen: Specimen, seq: int, draw: random.Random) -> tuple[str, ...]:
    other = draw.choice([each for each in range(1, specimen.signed_through + 1) if each != seq])
    for one, two in ((seq, -1), (other, seq), (-1, other)):
        database.execute("UPDATE events SET seq = ? WHERE seq = ?", (two, one))
    return (f"event {min(seq, other)} ",)


def _head(database: sqlite3.Connection, draw: random.Random) -> Edit:
    """A signed head that is changed, moved or taken away; the copy outside the project tells."""
    [seq] = draw.choice(database.execute("SELECT seq FROM heads ORDER BY seq").fetchall())
    how, statement = draw.choice(
        [
            ("delete", "DELETE FROM heads WHERE seq = ?"),
            ("signature", "UPDATE heads SET signature = CAST(zeroblob(64) AS BLOB) WHERE seq = ?"),
            ("digest", "UPDATE heads SET digest = replace(digest, substr(digest, 1, 1), 'x') WHERE seq = ?"),
            ("number", "UPDATE heads SET seq = seq - 1 WHERE seq = ?"),
            ("key", "UPDATE heads SET key_id = 'f00f00f00f00f00f' WHERE seq = ?"),
        ]
    )
    database.execute(statement, (seq,))
    return Edit("head", how, str(seq), (f"event {seq}", f"event {seq - 1}"))


def sweep(specimen: Specimen, seeds: range) -> dict[str, int]:
    """Do the edits of these seeds; how many of each area were found. Raises AssertionError with a seed that was not."""
    counts: dict[str, int] = {}
    for seed in seeds:
        with tampered(specimen, seed) as edit:
            found = specimen.found(edit)
            assert found, f"seed {seed}: not found: {edit}"
            assert any(name in each for each in found for name in edit.named), f"seed {seed}: {edit} not named in {found}"
        counts[edit.area] = counts.get(edit.area, 0) + 1
    return counts
