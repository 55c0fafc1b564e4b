"""The ledger: one append path, a chain of SHA-256 digests, leases with fencing tokens; SQLite in WAL mode.

Appends take a file lock before the transaction, because SQLite's own busy handler starves writers. `synchronous=FULL`: an appended
event survives power loss. The chain covers payload digests. A chain cannot show that its own tail is missing: signed heads (`heads`) do.
Does not know: what events mean (`record`, `run`), or who signs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any

from bedplate.core.clock import Clock
from bedplate.core.digest import canonical, digest_bytes
from bedplate.core.errors import Busy, ChainBroken, Fenced, LedgerError, NotFound, Outrun
from bedplate.core.event import KINDS, SCHEMA, Draft, Event
from bedplate.core.projection import discard

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, schema INTEGER NOT NULL, subject TEXT NOT NULL,
    key TEXT UNIQUE, payload BLOB, payload_digest TEXT NOT NULL, digest TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS heads (
    seq INTEGER NOT NULL, digest TEXT NOT NULL, signed_at_ms INTEGER NOT NULL, key_id TEXT NOT NULL, signature BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, expires_at_ms INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Lease:
    """The right to drive something until `expires_at_s`. A higher `token` fences a lower one. `holder` is JSON that tells who."""

    name: str
    holder: str
    token: int
    expires_at_s: float


@dataclass(frozen=True)
class Head:
    """The end of the chain: the number and digest of the last event."""

    seq: int
    digest: str


@dataclass(frozen=True)
class SignedHead:
    """A head with an Ed25519 signature over `heads.message(ledger_id, seq, digest)`."""

    seq: int
    digest: str
    signed_at_s: float
    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Link:
    """One link of the chain, with the bytes of its payload as stored (None: erased, or left out). `digest` covers all but those bytes."""

    seq: int
    at_ms: int
    kind: str
    schema: int
    subject: str
    key: str | None
    payload: bytes | None
    payload_digest: str
    digest: str

    def follows(self, previous: str) -> bool:
        """Whether its digest is right behind the digest `previous`."""
        row = (self.seq, self.at_ms, self.kind, self.schema, self.subject, self.key)
        return _link_digest(previous, row, self.payload_digest) == self.digest


class Ledger:
    """An open ledger. One instance belongs to one thread; processes may share a file."""

    def __init__(self, path: Path, project: str, clock: Clock) -> None:
        """Open or create the ledger at `path`. Raises LedgerError when it belongs to another project or cannot be read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.project = project
        self._clock = clock
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        try:
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):  # erased bytes are overwritten
                self._database.execute(f"PRAGMA {setting}")
            self.id = self._prepare()
        except sqlite3.DatabaseError as error:
            self.close()
            raise LedgerError("the ledger cannot be opened", value=str(path), fix=f"restore a backup ({error})") from error
        except LedgerError:
            self.close()
            raise

    def close(self) -> None:
        """Release the files."""
        self._database.close()
        os.close(self._lock)

    def _prepare(self) -> str:
        if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'leases'").fetchone():
            with self._locked():
                for statement in _TABLES.split(";"):
                    self._database.execute(statement)
                for name, value in (("id", os.urandom(16).hex()), ("project", self.project)):
                    self._database.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        meta = dict(self._database.execute("SELECT name, value FROM meta").fetchall())
        if meta["project"] != self.project:
            fix = f"set BEDPLATE_STATE to another folder, or name the project {meta['project']!r} again"
            raise LedgerError("this ledger belongs to another project", value=self.project, fix=fix)
        return str(meta["id"])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(
                "the ledger cannot be written", value=str(self.path), fix=f"see to the disk and its space ({error})"
            ) from error
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def append(self, drafts: Sequence[Draft], lease: Lease | None = None, after: int | None = None) -> list[Event]:
        """Append all of `drafts` in one transaction, or none; drafts whose key is there already are left out.

        With a `lease`, raises Fenced when its token is no longer the current one; with `after`, the number of the event that they were
        decided on, Outrun when there are newer ones. Raises LedgerError for an unknown kind.
        """
        appended: list[Event] = []
        with self._locked():
            if lease is not None:
                self._check(lease)
            head = self.head()
            if after is not None and head.seq != after:
                raise Outrun("the ledger has newer events", value=head.seq, fix=f"decide again: this was decided after event {after}")
            for draft in drafts:
                event = self._link(draft, head)
                if event is not None:
                    appended.append(event)
                    head = Head(event.seq, event.digest)
        return appended

    def _link(self, draft: Draft, head: Head) -> Event | None:
        if draft.kind not in KINDS:
            raise LedgerError("no such kind of event", value=draft.kind, fix="use one of event.KINDS")
        if draft.key is not None and self._database.execute("SELECT 1 FROM events WHERE key = ?", (draft.key,)).fetchone():
            return None
        at_ms = int(self._clock.now() * 1000)
        payload = canonical(dict(draft.payload))
        payload_digest = digest_bytes(payload)
        seq = head.seq + 1
        row = (seq, at_ms, draft.kind, SCHEMA, draft.subject, draft.key)
        link = _link_digest(head.digest, row, payload_digest)
        self._database.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)", (*row, payload, payload_digest, link))
        return Event(seq, at_ms / 1000, draft.kind, SCHEMA, draft.subject, draft.key, json.loads(payload), link)  # as `read` gives it

    def head(self) -> Head:
        """The end of the chain."""
        row = self._database.execute("SELECT seq, digest FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return Head(row[0], row[1]) if row else self.beginning()

    def beginning(self) -> Head:
        """What the first event is linked to: number 0 and the digest of the ledger's identity."""
        return Head(0, digest_bytes(self.id.encode()))

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """Events with `seq` above `after`, in order, at most `limit`. An erased payload reads as an empty mapping.

        Raises ChainBroken for a payload that is no JSON any more; all other damage is found by `verify`.
        """
        rows = self._database.execute(
            "SELECT seq, at_ms, kind, schema, subject, key, payload, digest FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, -1 if limit is None else limit),
        ).fetchall()
        for seq, at_ms, kind, schema, subject, key, payload, link in rows:
            try:
                values: Mapping[str, Any] = json.loads(payload) if payload is not None else {}
            except ValueError as error:
                raise _broken(f"event {seq} was changed", kind) from error
            yield Event(seq, at_ms / 1000, kind, schema, subject, key, values, link, erased=payload is None)

    def links(self, first: int, last: int) -> Iterator[Link]:
        """The links of the chain from event `first` to `last`, as stored."""
        columns = "seq, at_ms, kind, schema, subject, key, payload, payload_digest, digest"
        rows = self._database.execute(f"SELECT {columns} FROM events WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last))  # noqa: S608 - constants
        for row in rows:
            yield Link(*row)

    def about(self, subjects: Sequence[str]) -> list[Event]:
        """The events of these subjects, in order."""
        self._database.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (subject TEXT PRIMARY KEY)")
        self._database.execute("DELETE FROM wanted")
        self._database.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", [(subject,) for subject in subjects])
        rows = self._database.execute("SELECT seq FROM events WHERE subject IN (SELECT subject FROM wanted) ORDER BY seq").fetchall()
        return [event for (seq,) in rows for event in self.read(seq - 1, limit=1)]

    def erase(self, seq: int, reason: str) -> None:
        """Erase the payload of event `seq` for good, here and in the projection, and record that, with the reason.

        Its digest stays, so the chain verifies.
        Raises NotFound for a number that is no event's, and Busy while a reader keeps the old bytes in the write-ahead log; the event is
        erased then, and the same call later removes those bytes too.
        """
        with self._locked():
            if self.digest_at(seq) is None:
                raise NotFound("no such event", value=seq, fix=f"events are numbered 1 to {self.head().seq}")
            self._database.execute("UPDATE events SET payload = NULL WHERE seq = ?", (seq,))
            self._link(Draft("payload.erased", str(seq), {"seq": seq, "reason": reason}, key=f"erased/{seq}"), self.head())
        gone = discard(self.path)
        if self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] or not gone:
            raise Busy("a reader keeps the erased bytes in the write-ahead log", value=seq, fix="end it and erase the event again")

    def verify(self) -> Head:
        """Recompute the chain over the bytes as stored. Raises ChainBroken naming the first event that does not fit."""
        head = Head(0, digest_bytes(self.id.encode()))
        unexplained: set[str] = set()  # payloads that are gone, until an event says that they were erased
        rows = self._database.execute(
            "SELECT seq, at_ms, kind, schema, subject, key, payload, payload_digest, digest FROM events ORDER BY seq"
        )
        for *row, payload, payload_digest, link in rows:
            if row[0] != head.seq + 1:
                raise _broken(f"event {head.seq + 1} is missing", row[0])
            changed = payload is not None and digest_bytes(payload) != payload_digest
            if changed or _link_digest(head.digest, tuple(row), payload_digest) != link:
                raise _broken(f"event {row[0]} was changed or reordered", row[2])
            if payload is None:
                unexplained.add(str(row[0]))
            if row[2] == "payload.erased":
                unexplained.discard(row[4])
            head = Head(row[0], link)
        if unexplained:
            raise _broken(f"the payload of event {min(unexplained, key=int)} is gone, and no event says that it was erased", None)
        return head

    def digest_at(self, seq: int) -> str | None:
        """The chain's digest at event `seq`, or None when there is no such event."""
        row = self._database.execute("SELECT digest FROM events WHERE seq = ?", (seq,)).fetchone()
        return str(row[0]) if row else None

    def add_signed_head(self, head: SignedHead) -> None:
        """Keep a signed head beside the events."""
        with self._locked():
            row = (head.seq, head.digest, int(head.signed_at_s * 1000), head.key_id, head.signature)
            self._database.execute("INSERT INTO heads VALUES (?,?,?,?,?)", row)

    def signed_heads(self) -> list[SignedHead]:
        """All signed heads, oldest first."""
        rows = self._database.execute("SELECT seq, digest, signed_at_ms, key_id, signature FROM heads ORDER BY seq, rowid")
        return [SignedHead(seq, link, at_ms / 1000, key_id, signature) for seq, link, at_ms, key_id, signature in rows]

    def backup(self, path: Path) -> None:
        """Copy the whole ledger to `path`, consistent while others write."""
        with closing(sqlite3.connect(path)) as target:
            self._database.backup(target)

    def lease(self, name: str) -> Lease | None:
        """The lease of that name, expired or not; None when nobody ever took it."""
        row = self._database.execute("SELECT name, holder, token, expires_at_ms FROM leases WHERE name = ?", (name,)).fetchone()
        return Lease(row[0], row[1], row[2], row[3] / 1000) if row else None

    def acquire(self, name: str, holder: str, duration_s: float, broken: Lease | None = None) -> Lease:
        """Take a lease that is free, expired, or equal to `broken` (whose holder the caller knows to be dead).

        Raises Busy when another holder has it.
        """
        with self._locked():
            present = self.lease(name)
            free = present is None or present.expires_at_s <= self._clock.now() or present == broken
            if present is not None and not free:
                raise Busy(f"the lease {name!r} is held", value=present.holder, fix="wait for its holder to end, or stop it")
            taken = Lease(name, holder, (present.token if present else 0) + 1, self._until(duration_s))
            self._store(taken)
        return taken

    def renew(self, lease: Lease, duration_s: float) -> Lease:
        """The same lease, longer. Raises Fenced when somebody else took it meanwhile."""
        with self._locked():
            self._check(lease)
            renewed = Lease(lease.name, lease.holder, lease.token, self._until(duration_s))
            self._store(renewed)
        return renewed

    def release(self, lease: Lease) -> None:
        """End a lease at once; its token stays used. One that was taken by somebody else is left alone."""
        with self._locked():
            present = self.lease(lease.name)
            if present is not None and present.token == lease.token:
                self._store(Lease(lease.name, lease.holder, lease.token, 0.0))

    def _until(self, duration_s: float) -> float:
        return round((self._clock.now() + duration_s) * 1000) / 1000  # as it is stored, so that a lease equals what `lease` reads

    def _store(self, lease: Lease) -> None:
        row = (lease.name, lease.holder, lease.token, round(lease.expires_at_s * 1000))
        self._database.execute("INSERT OR REPLACE INTO leases VALUES (?,?,?,?)", row)

    def _check(self, lease: Lease) -> None:
        present = self.lease(lease.name)
        if present is None or present.token != lease.token:
            current = present.token if present else None
            raise Fenced(f"the lease {lease.name!r} has a newer token", value=current, fix="stop: somebody else drives this now")


def _broken(what: str, value: object) -> ChainBroken:
    return ChainBroken(what, value=value, fix="restore the newest backup that verifies")


def _link_digest(previous: str, row: tuple[Any, ...], payload_digest: str) -> str:
    """SHA-256 of the digest before and the canonical JSON of [*row, payload_digest], written out: it is most of what `verify` does."""
    seq, at_ms, kind, schema, subject, key = row
    named = quoted(key) if key is not None else "null"
    link = f'{previous}[{seq},{at_ms},{quoted(kind)},{schema},{quoted(subject)},{named},"{payload_digest}"]'
    return hashlib.sha256(link.encode()).hexdigest()
