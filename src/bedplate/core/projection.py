"""The projection: the records of a ledger, stored beside it, so that no command has to fold a million events.

`fold` stays the truth. The projection says after which event it stands and what the chain's digest is there; one that does not fit the
chain, or was made by another version of the fold (the digest of this package's source), is thrown away and made anew. It is advanced in
transactions of some thousand events, so a kill at any instant leaves the state after some event. A reader reads one such state (a
transaction of SQLite in WAL mode) and folds in memory what came since.
Does not know: what events mean (`record`), or how rows are laid out (`stored`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import closing, contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bedplate.core.event import Event
from bedplate.core.record import AliasMove, AttemptRecord, LaunchRecord, Records, RunRecord, fold, is_driven
from bedplate.core.run import Finish, RunState
from bedplate.core.stored import Codec, Lists, Rows, Source, create
from bedplate.core.versions import Version

if TYPE_CHECKING:
    from bedplate.core.ledger import Head

CHUNK_EVENTS = 20_000  # of one transaction
OPENING_EVENTS = 512  # with more to fold than this, whoever opens the ledger advances the projection first
FOLLOWING_EVENTS = 4_096  # the same for who has it open: it folded them already, so this is only about the next who opens it
OPENINGS = 20  # tries, while others throw it away
CHECKPOINT_WAIT_MS = 200  # for readers to end; a reader of an old state ends when it likes

_LOG = logging.getLogger("bedplate.projection")


class Chain(Protocol):
    """What the projection needs of a ledger."""

    id: str
    path: Path

    def head(self) -> Head:
        """The end of the chain."""

    def digest_at(self, seq: int) -> str | None:
        """The chain's digest at an event; None when there is none."""

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """Events in order."""


def open_records(ledger: Chain) -> Records:
    """The records of a ledger: read from its projection, which is made or advanced when it has to be.

    Where it cannot be written (a full disk), all events are folded in memory.
    """
    try:
        return _opened(ledger)
    except (sqlite3.Error, OSError) as error:
        _LOG.debug("the projection of %s cannot be used, all events are folded: %s", ledger.path, error)
        records = Records()
        follow(records, ledger)
        return records


def follow(records: Records, ledger: Chain) -> None:
    """Fold the events that came since. `records` stays the same object, and so do the records in it, until a payload is erased."""
    erased = _fold_tail(records, ledger)
    if isinstance(records, StoredRecords) and records.seq - records.base >= FOLLOWING_EVENTS:
        erased = _move_on(records, ledger) or erased
    if not erased:
        return
    if isinstance(records, StoredRecords):  # what was folded from that payload before must go
        fresh = _opened(ledger)
        records.release()
        vars(records).update(vars(fresh))
    else:
        vars(records).update(vars(fold(ledger.read())))


def _fold_tail(records: Records, ledger: Chain) -> bool:
    """Whether a payload was erased meanwhile."""
    erased = False
    for event in ledger.read(records.seq):
        records.apply(event)
        erased = erased or event.kind == "payload.erased"
    return erased


class StoredRecords(Records):
    """Records in front of a projection; `base` is the event after which it stood when its rows were last opened."""

    base: int
    source: Source

    def __init__(self, source: Source, seq: int) -> None:
        """The records of `source`, a projection after event `seq`."""
        kinds: dict[str, Any] = {}
        for name, codec in codecs().items():
            kinds[name] = Lists(source, name, codec) if codec.listed else Rows(source, name, codec)
        super().__init__(seq, **kinds)
        self.source, self.base = source, seq

    def release(self) -> None:
        """Close the projection."""
        self.source.connection.close()

    def save(self) -> None:
        """Write what was read or changed since."""
        for name in codecs():
            getattr(self, name).save()

    def of_step(self, step: str, status: str | None = None) -> list[RunRecord]:
        """As in memory, by an index."""
        return [run for run in _rows(self.runs).where("step", step) if status in (None, run.state.status)]

    def newest(self, step: str) -> RunRecord | None:
        """As in memory, by an index."""
        found: RunRecord | None = _rows(self.runs).last("step", step)
        return found

    def of_launch(self, launch: str) -> list[RunRecord]:
        """As in memory, by an index."""
        return list(_rows(self.runs).where("launch", launch))

    def live(self) -> list[RunRecord]:
        """As in memory, by an index."""
        return list(_rows(self.runs).where("driven", 1))

    def open_launches(self) -> list[LaunchRecord]:
        """As in memory, by an index."""
        return list(_rows(self.launches).where("status", "open"))

    def same_content(self, name: str, digest: str) -> Version | None:
        """As in memory, by an index."""
        found: Version | None = _lists(self.versions).first(name, "digest", digest)
        return found

    def moves(self, name: str) -> dict[str, MutableSequence[AliasMove]]:
        """As in memory; models are few."""
        return {key[1]: self.aliases[key] for key in self.aliases if key[0] == name}


def _rows(mapping: object) -> Rows[Any, Any]:
    assert isinstance(mapping, Rows)
    return mapping


def _lists(mapping: object) -> Lists[Any, Any]:
    assert isinstance(mapping, Lists)
    return mapping


def discard(path: Path) -> bool:
    """Overwrite what the projection beside the ledger at `path` holds; whether none of its bytes are left (a reader may keep some)."""
    place = place_of(path)
    if not place.exists():
        return True
    try:
        with _writing(place) as database:
            _empty(database)
        with closing(_connect(place)) as database:
            database.execute(f"PRAGMA busy_timeout={CHECKPOINT_WAIT_MS}")
            return not database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        _LOG.debug("the projection %s is no database: %s", place, error)
        for name in (place.name, f"{place.name}-wal", f"{place.name}-shm"):
            place.with_name(name).unlink(missing_ok=True)
        return True


def place_of(path: Path) -> Path:
    """Where the projection of the ledger at `path` lies."""
    return path.with_name("projection.db")


@cache
def codecs() -> Mapping[str, Codec[Any]]:
    """How each field of Records is stored; one that is not named here holds text keys and plain JSON."""
    known: dict[str, Codec[Any]] = {
        "runs": Codec(
            _run_to_json,
            _run_from_json,
            {"step": lambda run: str(run.step), "launch": lambda run: str(run.launch), "driven": lambda run: int(is_driven(run))},
        ),
        "launches": Codec(vars, _launch_from_json, {"status": lambda launch: str(launch.status)}),
        "versions": Codec(vars, lambda values: Version(**values), {"digest": lambda version: str(version.digest)}, listed=True),
        "aliases": Codec(vars, lambda values: AliasMove(**values), listed=True, pairs=True),
    }
    return {each.name: known.get(each.name, Codec()) for each in fields(Records) if each.name != "seq"}


def _run_to_json(run: RunRecord) -> dict[str, Any]:
    ending = run.state.ending
    state = {**vars(run.state), "ending": vars(ending) if ending is not None else None}
    return {**vars(run), "state": state, "attempts": [vars(attempt) for attempt in run.attempts]}


def _run_from_json(values: dict[str, Any]) -> RunRecord:
    state = values["state"]
    state["ending"] = Finish(**state["ending"]) if state["ending"] is not None else None
    state["crash"] = tuple(state["crash"]) if state["crash"] is not None else None
    state["excluded"] = tuple(state["excluded"])
    attempts = [AttemptRecord(**attempt) for attempt in values["attempts"]]
    return RunRecord(**{**values, "state": RunState(**state), "attempts": attempts, "outputs": tuple(values["outputs"])})


def _launch_from_json(values: dict[str, Any]) -> LaunchRecord:
    return LaunchRecord(**{**values, "targets": tuple(values["targets"]), "force": tuple(values["force"])})


@cache
def _fold_version() -> str:
    """The digest of the source of this package: another fold makes other records of the same events."""
    hasher = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py*")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def _opened(ledger: Chain) -> StoredRecords:
    place = place_of(ledger.path)
    for _ in range(OPENINGS):
        records = _current(ledger, place)
        if records is None:
            _restart(ledger, place)
            continue
        tail = list(ledger.read(records.seq, limit=OPENING_EVENTS))
        erased = any(event.kind == "payload.erased" for event in tail)
        if len(tail) < OPENING_EVENTS and not erased:
            for event in tail:
                records.apply(event)
            return records
        records.release()
        while _advance(ledger, place):
            pass
    raise OSError(errno.EBUSY, "others throw it away all the time", str(place))


def _current(ledger: Chain, place: Path) -> StoredRecords | None:
    """The records as the projection has them; None when there is none that fits."""
    if not place.exists():
        return None
    try:
        return _snapshot(ledger, place)
    except sqlite3.OperationalError:  # a full disk, a missing right: not the file's fault
        raise
    except sqlite3.DatabaseError as error:
        _LOG.debug("the projection %s is damaged: %s", place, error)
        discard(ledger.path)
        return None


def _snapshot(ledger: Chain, place: Path) -> StoredRecords | None:
    """The records as the projection has them now; None when it does not fit."""
    database = _connect(place)
    try:
        database.execute("BEGIN")
        seq = _fits(ledger, database)
        if seq is None:
            database.close()
            return None
        return StoredRecords(Source(database, lambda: _damaged(ledger.path)), seq)
    except BaseException:
        database.close()
        raise


def _damaged(path: Path) -> None:
    discard(path)


def _connect(place: Path) -> sqlite3.Connection:
    database = sqlite3.connect(place, isolation_level=None, timeout=30.0, check_same_thread=False)
    try:
        for setting in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):  # a lost tail is folded again
            database.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        database.close()
        raise
    return database


@contextmanager
def _writing(place: Path) -> Iterator[sqlite3.Connection]:
    """A transaction of the one writer there is at a time."""
    lock = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(_connect(place)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
    finally:
        os.close(lock)


def _fits(ledger: Chain, database: sqlite3.Connection) -> int | None:
    """After which event the projection stands; None when it is none of this ledger and this fold."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'projection'").fetchone():
        return None
    row = database.execute("SELECT ledger, fold, seq, digest FROM projection").fetchone()
    if row is None or row[:2] != (ledger.id, _fold_version()):
        return None
    seq, digest = row[2:]
    return int(seq) if seq == 0 or ledger.digest_at(seq) == digest else None


def _empty(database: sqlite3.Connection) -> None:
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for name in tables:
        database.execute(f'DROP TABLE "{name}"')


def _restart(ledger: Chain, place: Path) -> None:
    """Throw away what does not fit and begin before the first event."""
    with _writing(place) as database:
        if _fits(ledger, database) is None:  # else somebody made it anew meanwhile
            _begin(ledger, database)


def _begin(ledger: Chain, database: sqlite3.Connection) -> None:
    _LOG.debug("the projection of %s is missing or does not fit its chain or this fold: it is made anew", ledger.path)
    _empty(database)
    for name, codec in codecs().items():
        create(database, name, codec)
    database.execute("CREATE TABLE projection (ledger TEXT, fold TEXT, began INTEGER, seq INTEGER, digest TEXT)")
    database.execute("INSERT INTO projection VALUES (?, ?, ?, 0, '')", (ledger.id, _fold_version(), ledger.head().seq))


def _advance(ledger: Chain, place: Path) -> bool:
    """Fold the next events into the projection; whether there may be more."""
    with _writing(place) as database:
        seq = _fits(ledger, database)
        if seq is None:
            _begin(ledger, database)
            seq = 0
        (began,) = database.execute("SELECT began FROM projection").fetchone()
        events = list(ledger.read(seq, limit=CHUNK_EVENTS))
        if not events:
            return False
        if any(event.kind == "payload.erased" and event.seq > began for event in events):
            _begin(ledger, database)  # what that payload said may be in the rows
            return True
        records = StoredRecords(Source(database, _nothing), seq)
        for event in events:
            records.apply(event)
        records.save()
        database.execute("UPDATE projection SET seq = ?, digest = ?", (events[-1].seq, events[-1].digest))
    return len(events) == CHUNK_EVENTS


def _nothing() -> None:
    """The writer's transaction is rolled back, and whoever reads next finds the damage too."""


def _move_on(records: StoredRecords, ledger: Chain) -> bool:
    """Advance the projection for those who open it next, and read on from there: an old state held for long would make its file grow.

    Returns whether a payload was erased meanwhile.
    """
    place = place_of(ledger.path)
    try:
        _advance(ledger, place)
        later = _snapshot(ledger, place)
    except (sqlite3.Error, OSError) as error:
        _LOG.debug("the projection of %s cannot be advanced: %s", ledger.path, error)
        return False
    if later is None:
        return False
    if later.seq < records.base:  # it was thrown away meanwhile, and is not yet as far again
        later.release()
        return False
    erased = _fold_tail(records, ledger) if later.seq > records.seq else False
    # all that these records hold in memory is as of a later event than the rows, so the rows may be replaced below them
    former = records.source.connection
    records.source.connection, records.base = later.source.connection, later.seq
    former.close()
    return erased
