"""The index of tracking: what the events of the ledger say of experiments, runs and models, in SQLite tables that can be searched.

It can be deleted at any time: `catch_up` folds the events that came since it was last brought up to date, all of them if it is new or
belongs to another chain. The latest value of each metric is here, too; those values come from the points (`points`), not from events.
Runs of bedplate's own jobs are here beside those of clients: an experiment of theirs is a job. Processes share the file: a fold is one
transaction that begins where the last one ended.
Does not know: HTTP, or the order in which MLflow answers (`search`).
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.event import Event
from bedplate.core.ledger import Ledger
from bedplate.models.tracking.drafts import ARTIFACT_SCHEME, NAME_TAG

SCHEMA = "2"
DEFAULT_EXPERIMENT = "0"
OWN_KINDS = ("job", "train", "gate")
OWN_STATUS: Mapping[str, str] = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "cancelled": "KILLED"}
OWN_ARTIFACTS = "runs"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS experiments (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, location TEXT NOT NULL, lifecycle TEXT NOT NULL,
    created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, tags TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS experiments_name ON experiments (name);
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, experiment TEXT NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL,
    status TEXT NOT NULL, start_ms INTEGER NOT NULL, end_ms INTEGER, lifecycle TEXT NOT NULL, artifact_uri TEXT NOT NULL,
    kind TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS runs_experiment ON runs (experiment, lifecycle, start_ms);
CREATE TABLE IF NOT EXISTS params (
    key TEXT NOT NULL, run INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS params_key ON params (key, value, run);
CREATE TABLE IF NOT EXISTS tags (
    key TEXT NOT NULL, run INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_key ON tags (key, value, run);
CREATE TABLE IF NOT EXISTS metrics (
    key TEXT NOT NULL, run INTEGER NOT NULL, value REAL, at_ms INTEGER NOT NULL, step INTEGER NOT NULL,
    PRIMARY KEY (run, key)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS metrics_key ON metrics (key, value, run);
CREATE TABLE IF NOT EXISTS datasets (
    run INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, context TEXT, body TEXT NOT NULL,
    PRIMARY KEY (run, name, digest)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_models (
    run INTEGER NOT NULL, model TEXT NOT NULL, direction TEXT NOT NULL, step INTEGER NOT NULL,
    PRIMARY KEY (run, direction, model)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_owner ON documents (kind, owner);
"""
_NAMES = ("experiments", "runs", "params", "tags", "metrics", "datasets", "run_models", "documents", "meta")
_LATEST = """
INSERT INTO metrics (key, run, value, at_ms, step) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run, key) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms, step = excluded.step
WHERE (excluded.step, excluded.at_ms) > (step, at_ms)
   OR ((excluded.step, excluded.at_ms) = (step, at_ms) AND excluded.value > coalesce(value, -9e999))
"""  # MLflow's rule for the latest value: the highest step, then time, then value


class Index:
    """The tables, open in this process. One instance belongs to one thread."""

    def __init__(self, path: Path, project: str) -> None:
        """Open or create the index at `path`. One that another version wrote is made anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._project = project
        self.database = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")  # the last folds may be lost with power; they are folded again
        self.rebuilt = self._meta("schema") != SCHEMA
        if self.rebuilt:
            self._clear()

    def close(self) -> None:
        """Release the file."""
        self.database.close()

    def _meta(self, name: str) -> str:
        try:
            row = self.database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        except sqlite3.OperationalError:
            return ""  # no table yet
        return str(row[0]) if row else ""

    def _set_meta(self, name: str, value: str) -> None:
        self.database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _clear(self) -> None:
        self.database.execute("BEGIN IMMEDIATE")
        for name in _NAMES:
            self.database.execute(f"DROP TABLE IF EXISTS {name}")  # names of this module
        for statement in _TABLES.split(";"):
            self.database.execute(statement)
        self._set_meta("schema", SCHEMA)
        self.database.execute("COMMIT")

    @property
    def seq(self) -> int:
        """The number of the last event that was folded."""
        return int(self._meta("seq") or 0)

    def catch_up(self, ledger: Ledger) -> list[Event]:
        """Fold what the ledger has and the index has not; returns those events. A chain that is another is folded from its beginning."""
        head = ledger.head()
        folded = self.seq
        if head.seq == folded and (folded == 0 or head.digest == self._meta("digest")):
            return []
        if folded and ledger.digest_at(folded) != self._meta("digest"):
            self._clear()
            self.rebuilt = True
        return self._fold(ledger)

    def _fold(self, ledger: Ledger) -> list[Event]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            events = list(ledger.read(self.seq))
            for event in events:
                self._apply(event)
            if events:
                self._set_meta("seq", str(events[-1].seq))
                self._set_meta("digest", events[-1].digest)
            self.database.execute("COMMIT")
        finally:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
        return events

    def store_latest(self, values: Iterable[tuple[str, str, float, int, int]]) -> None:
        """Take (run, metric, value, milliseconds since the epoch, step): each counts where it is later than what is there."""
        self.database.execute("BEGIN IMMEDIATE")
        try:
            self._latest(values)
            self.database.execute("COMMIT")
        finally:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")

    def _latest(self, values: Iterable[tuple[str, str, float, int, int]]) -> None:
        rows = []
        for run, key, value, at_ms, step in values:
            number = self.number(run)
            if number is not None:
                rows.append((key, number, None if math.isnan(value) else value, at_ms, step))
        self.database.executemany(_LATEST, rows)

    def number(self, run: str) -> int | None:
        """The row of a run."""
        row = self.database.execute("SELECT number FROM runs WHERE id = ?", (run,)).fetchone()
        return int(row[0]) if row else None

    def document(self, kind: str, identity: str) -> dict[str, Any] | None:
        """A registered model, version, logged model or trace."""
        row = self.database.execute("SELECT body FROM documents WHERE kind = ? AND id = ?", (kind, identity)).fetchone()
        return dict(json.loads(row[0])) if row else None

    def documents(self, kind: str, owner: str | None = None) -> list[dict[str, Any]]:
        """All documents of a kind, or those of one owner (a version's model, an experiment)."""
        where, values = ("", (kind,)) if owner is None else (" AND owner = ?", (kind, owner))
        rows = self.database.execute(f"SELECT body FROM documents WHERE kind = ?{where}", values)  # noqa: S608 - no value is in the text
        return [dict(json.loads(body)) for (body,) in rows]

    def _put(self, kind: str, identity: str, owner: str, body: Mapping[str, Any]) -> None:
        self.database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", (kind, identity, owner, json.dumps(body)))

    def _drop(self, kind: str, identity: str) -> None:
        self.database.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, identity))

    # -- the fold -----------------------------------------------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        fold = _FOLDS.get(event.kind)
        if fold is not None and not event.erased:
            fold(self, event, event.payload)

    def _experiment_created(self, event: Event, payload: Mapping[str, Any]) -> None:
        self._experiment(event.subject, payload["name"], payload["artifact_location"], payload["at_ms"], payload.get("tags", {}))

    def _experiment(self, identity: str, name: str, location: str, at_ms: int, tags: Mapping[str, str]) -> None:
        row = (identity, name, location, "active", at_ms, at_ms, json.dumps(dict(tags)))
        self.database.execute("INSERT OR IGNORE INTO experiments VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _experiment_changed(self, event: Event, payload: Mapping[str, Any]) -> None:
        for column in ("name", "lifecycle"):
            if column in payload:
                self.database.execute(f"UPDATE experiments SET {column} = ? WHERE id = ?", (payload[column], event.subject))  # noqa: S608 - of two
        if "lifecycle" in payload:  # its runs go and come back with it
            self.database.execute("UPDATE runs SET lifecycle = ? WHERE experiment = ?", (payload["lifecycle"], event.subject))
        if "tags" in payload:
            row = self.database.execute("SELECT tags FROM experiments WHERE id = ?", (event.subject,)).fetchone()
            tags = _merged(json.loads(row[0]) if row else {}, payload["tags"])
            self.database.execute("UPDATE experiments SET tags = ? WHERE id = ?", (json.dumps(tags), event.subject))
        self.database.execute("UPDATE experiments SET updated_ms = ? WHERE id = ?", (payload["at_ms"], event.subject))

    def _run_logged(self, event: Event, payload: Mapping[str, Any]) -> None:
        names = ("experiment", "name", "user", "status", "start_ms")
        row = (event.subject, *(payload[name] for name in names), "active", payload["artifact_uri"], "logged")
        self._run(row)
        self._run_changed(event, {"tags": payload.get("tags", {})})

    def _run(self, row: tuple[Any, ...]) -> None:
        columns = "id, experiment, name, user, status, start_ms, lifecycle, artifact_uri, kind"
        self.database.execute(f"INSERT OR IGNORE INTO runs ({columns}) VALUES (?,?,?,?,?,?,?,?,?)", row)  # noqa: S608 - no value is in the text

    def _run_changed(self, event: Event, payload: Mapping[str, Any]) -> None:
        number = self.number(event.subject)
        if number is None:
            return
        for column in ("name", "status", "end_ms", "lifecycle"):
            if column in payload:
                self.database.execute(f"UPDATE runs SET {column} = ? WHERE number = ?", (payload[column], number))  # noqa: S608 - of four
        params = [(key, number, value) for key, value in payload.get("params", {}).items()]
        self.database.executemany("INSERT OR IGNORE INTO params VALUES (?, ?, ?)", params)
        for key, value in payload.get("tags", {}).items():
            if value is None:
                self.database.execute("DELETE FROM tags WHERE run = ? AND key = ?", (number, key))
            else:
                self.database.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (key, number, value))
        metrics = payload.get("metrics", {})
        self._latest((event.subject, key, float(value), at_ms, step) for key, (value, at_ms, step) in metrics.items())
        for used in payload.get("datasets", ()):
            context = used.get("tags", {}).get("mlflow.data.context")
            row = (number, used["dataset"]["name"], used["dataset"]["digest"], context, json.dumps(used))
            self.database.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?, ?)", row)
        models = [(number, model, "in", 0) for model in payload.get("models_in", ())]
        models += [(number, model, "out", step) for model, step in payload.get("models_out", ())]
        self.database.executemany("INSERT OR IGNORE INTO run_models VALUES (?, ?, ?, ?)", models)

    # -- bedplate's own runs ------------------------------------------------------------------------------------------------------

    def _own_created(self, event: Event, payload: Mapping[str, Any]) -> None:
        if payload["kind"] not in OWN_KINDS:
            return
        at_ms = round(event.at_s * 1000)
        experiment = own_experiment(self._project, payload["step"])
        self._experiment(experiment, f"{self._project}/{payload['step']}", f"{ARTIFACT_SCHEME}{OWN_ARTIFACTS}", at_ms, {})
        uri = f"{ARTIFACT_SCHEME}{OWN_ARTIFACTS}/{event.subject}"
        self._run((event.subject, experiment, event.subject, "bedplate", "SCHEDULED", at_ms, "active", uri, payload["kind"]))
        tags = {NAME_TAG: event.subject, "bedplate.kind": payload["kind"], "bedplate.launch": payload["launch"]}
        self._run_changed(event, {"tags": tags})

    def _own_started(self, event: Event, _payload: Mapping[str, Any]) -> None:
        self.database.execute("UPDATE runs SET status = 'RUNNING' WHERE id = ? AND kind != 'logged'", (event.subject,))

    def _own_finished(self, event: Event, payload: Mapping[str, Any]) -> None:
        at_ms = round(event.at_s * 1000)
        texts = {part: {name: str(value) for name, value in payload.get(part, {}).items()} for part in ("params", "tags")}
        metrics = {name: [float(value), at_ms, 0] for name, value in payload.get("metrics", {}).items()}
        status = OWN_STATUS.get(payload["status"], "FAILED")
        self._run_changed(event, {"status": status, "end_ms": at_ms, "metrics": metrics, **texts})

    # -- the registry, logged models, traces --------------------------------------------------------------------------------------

    def _model_changed(self, event: Event, payload: Mapping[str, Any]) -> None:
        name = event.subject
        model = self.document("model", name) or _new_model(name, payload["at_ms"])
        if payload.get("removed"):
            self._drop("model", name)
            return
        if "renamed" in payload:
            self._rename(name, payload["renamed"])
            model["name"] = name = payload["renamed"]
        model["description"] = payload.get("description", model["description"])
        model["tags"] = _merged(model["tags"], payload.get("tags", {}))
        model["updated_ms"] = payload["at_ms"]
        self._put("model", name, "", model)

    def _rename(self, old: str, new: str) -> None:
        self._drop("model", old)
        for version in self.documents("version", old):
            self._drop("version", f"{old}@{version['number']}")
            self._put("version", f"{new}@{version['number']}", new, {**version, "model": new})

    def _version_created(self, _event: Event, payload: Mapping[str, Any]) -> None:
        version = payload["version"]
        if version["kind"] != "model":
            return
        name, at_ms = version["name"], round(version["created_at_s"] * 1000)
        model = self.document("model", name) or _new_model(name, at_ms)
        model["updated_ms"] = at_ms
        self._put("model", name, "", model)
        told = version["meta"].get("mlflow", {})
        body = {
            "model": name,
            "number": version["number"],
            "digest": version["digest"],
            "run": version["run"],
            "source": told.get("source", version["location"]),
            "mlflow": told,
            "description": told.get("description", ""),
            "stage": "None",
            "tags": {},
            "created_ms": at_ms,
            "updated_ms": at_ms,
        }
        self._put("version", f"{name}@{version['number']}", name, body)
        self._put("number", f"{name}@{version['number']}", name, {})  # it stays when the version is removed

    def _version_tagged(self, event: Event, payload: Mapping[str, Any]) -> None:
        version = self.document("version", event.subject)
        if version is not None:
            version["tags"] = _merged(version["tags"], payload["tags"])
            version |= {name: payload[name] for name in ("description", "stage") if name in payload}
            version["updated_ms"] = round(event.at_s * 1000)
            self._put("version", event.subject, version["model"], version)

    def _version_removed(self, event: Event, _payload: Mapping[str, Any]) -> None:
        self._drop("version", event.subject)
        name, _, number = event.subject.rpartition("@")
        model = self.document("model", name)
        if model is not None:
            model["aliases"] = {alias: found for alias, found in model["aliases"].items() if str(found) != number}
            self._put("model", name, "", model)

    def _alias_moved(self, event: Event, payload: Mapping[str, Any]) -> None:
        model = self.document("model", event.subject) or _new_model(event.subject, round(event.at_s * 1000))
        model["aliases"] = _merged(model["aliases"], {payload["alias"]: payload["version"]})
        self._put("model", event.subject, "", model)

    def _logged_model_created(self, event: Event, payload: Mapping[str, Any]) -> None:
        self._put("logged_model", event.subject, payload["experiment_id"], payload)

    def _trace_recorded(self, event: Event, payload: Mapping[str, Any]) -> None:
        self._put("trace", event.subject, payload["experiment_id"], payload)

    def _changed_document(self, event: Event, payload: Mapping[str, Any]) -> None:
        kind = "trace" if event.kind == "trace.changed" else "logged_model"
        body = self.document(kind, event.subject)
        if body is not None:
            merged = {part: _merged(body.get(part, {}), payload[part]) for part in ("tags", "params") if part in payload}
            self._put(kind, event.subject, body["experiment_id"], {**body, **payload, **merged})


def own_experiment(project: str, step: str) -> str:
    """The id of the experiment that stands for a job of the project: 18 digits, the same in every index."""
    return str(10**17 + int(hashlib.sha256(f"{project}/{step}".encode()).hexdigest(), 16) % (9 * 10**17))


def _new_model(name: str, at_ms: int) -> dict[str, Any]:
    return {"name": name, "description": "", "tags": {}, "aliases": {}, "created_ms": at_ms, "updated_ms": at_ms}


def _merged(present: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**present, **changes}.items() if value is not None}


_FOLDS: Mapping[str, Any] = {
    "experiment.created": Index._experiment_created,
    "experiment.changed": Index._experiment_changed,
    "run.logged": Index._run_logged,
    "run.changed": Index._run_changed,
    "run.created": Index._own_created,
    "attempt.started": Index._own_started,
    "run.finished": Index._own_finished,
    "model.changed": Index._model_changed,
    "version.created": Index._version_created,
    "version.tagged": Index._version_tagged,
    "version.removed": Index._version_removed,
    "alias.moved": Index._alias_moved,
    "candidate.logged": Index._logged_model_created,
    "candidate.changed": Index._changed_document,
    "trace.recorded": Index._trace_recorded,
    "trace.changed": Index._changed_document,
}
