"""Records: what `ps`, `runs`, lineage and the Python interface show. Never written; always a fold over events.

Does not know: live progress (that is in the journals), the data itself, or how a record is printed.
"""

from __future__ import annotations

import html
from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from dataclasses import dataclass, field, replace
from typing import Any

from bedplate.core.clock import human_duration, iso
from bedplate.core.errors import NotFound, nearest
from bedplate.core.event import Event
from bedplate.core.run import ENDED, RunState, RunStatus, advance
from bedplate.core.versions import Version

LOGGED_STATUS: Mapping[str, RunStatus] = {  # of MLflow's statuses; a run that a client logged has no others
    "RUNNING": "running",
    "SCHEDULED": "pending",
    "FINISHED": "succeeded",
    "FAILED": "failed",
    "KILLED": "cancelled",
}
_NOT_OURS: Mapping[str, Any] = {"fingerprint": "", "why": "a client logged it", "inputs": {}, "spec": {}}  # of a run that no plan made


@dataclass
class AttemptRecord:
    """One attempt: its token, engine, folder (below the state folder) and handle; how it ended, once it has."""

    token: int
    engine: str
    folder: str
    handle: Mapping[str, Any]
    started_at_s: float
    ended_at_s: float | None = None
    status: str = "running"
    failure: str | None = None
    message: str = ""
    restarts: list[Mapping[str, Any]] = field(default_factory=list)  # ranks replaced in place
    notices: list[Mapping[str, Any]] = field(default_factory=list)  # what ended nothing by itself


@dataclass
class RunRecord:
    """One execution of a step, as far as the ledger knows it. `made` is what `run.created` said: fingerprint, inputs, code, why…"""

    id: str
    step: str
    kind: str
    launch: str
    created_at_s: float
    state: RunState
    made: Mapping[str, Any]
    attempts: list[AttemptRecord] = field(default_factory=list)
    ended_at_s: float | None = None
    outputs: tuple[str, ...] = ()
    failure: str | None = None
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    port: int | None = None
    answering: int = 0  # the token of the attempt that said it answers on `port`
    rollout: Mapping[str, Any] | None = None  # the newest of its `rollout.…` events

    @property
    def status(self) -> str:
        """`pending`, `running`, `ready` (an endpoint that answers), `succeeded`, `failed`, `stopped` or `cancelled`."""
        return "ready" if self.state.live and self.answering == self.state.token else self.state.status

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state.status in ENDED

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the step that it executed."""
        return str(self.made["fingerprint"])

    @property
    def duration_s(self) -> float | None:
        """Seconds from creation to the end; None while it lasts."""
        return None if self.ended_at_s is None else self.ended_at_s - self.created_at_s

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as `--json` prints it."""
        attempts = [{"token": a.token, "status": a.status, "failure": a.failure, "message": a.message} for a in self.attempts]
        times = {"created_at": iso(self.created_at_s), "ended_at": iso(self.ended_at_s) if self.ended_at_s else None}
        shown = {name: getattr(self, name) for name in ("id", "step", "kind", "launch", "status", "failure", "message", "port")}
        facts = {"params": dict(self.params), "metrics": dict(self.metrics), "tags": dict(self.tags), "outputs": list(self.outputs)}
        return {**shown, **times, "duration_s": self.duration_s, **facts, "attempts": attempts, "made": dict(self.made)}

    def _repr_html_(self) -> str:
        rows = {"step": self.step, "status": self.status, "outputs": ", ".join(self.outputs), **self.params, **self.metrics}
        if self.duration_s is not None:
            rows["took"] = human_duration(self.duration_s)
        cells = "".join(f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
        return f"<table><caption>{html.escape(self.id)}</caption>{cells}</table>"


@dataclass
class LaunchRecord:
    """One execution of a plan. `mode` is `run` or `up`; `spec` is the project as it was when somebody asked; `on` is the pool for jobs,
    `at` the snapshot whose tables are read.
    """

    id: str
    mode: str
    targets: tuple[str, ...]
    force: tuple[str, ...]
    spec: Mapping[str, Any]
    requested_at_s: float
    status: str = "open"
    message: str = ""
    finished_at_s: float | None = None
    on: str = ""
    at: str = ""


@dataclass
class AliasMove:
    """An alias moved to `version` (a number) by a recorded decision, at `at_s`."""

    version: int
    at_s: float
    decision: Mapping[str, Any]


@dataclass
class Records:
    """All records of a project: the state of the fold after event `seq`.

    Its mappings may be read from a stored projection one record at a time (`core.projection`), so ask for one record, or by step, launch
    or model; `values()` of all runs reads all of them. Records are changed by `apply` only. A field that is added here is stored without
    more ado when its keys are text and its values plain JSON.
    """

    seq: int = 0
    runs: MutableMapping[str, RunRecord] = field(default_factory=dict)
    launches: MutableMapping[str, LaunchRecord] = field(default_factory=dict)
    versions: MutableMapping[str, MutableSequence[Version]] = field(default_factory=dict)
    aliases: MutableMapping[tuple[str, str], MutableSequence[AliasMove]] = field(default_factory=dict)
    evaluations: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accepted: MutableMapping[str, str] = field(default_factory=dict)
    approvals: MutableMapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)  # by reference of a version
    watched: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by trigger: when and why it fired last
    removed: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by reference: who, why, when
    tagged: MutableMapping[str, dict[str, str]] = field(default_factory=dict)  # tags that were set on a version, by reference
    trusted: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by SHA-256 of a file: who, why
    pointed: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)  # tags of tables, by NAME@TAG: version, who, why
    snapshots: MutableMapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by name: what is pinned, and its digest
    rolled: MutableMapping[str, list[Mapping[str, Any]]] = field(default_factory=dict)  # by table: rollbacks and releases, oldest first

    def version(self, ref: str) -> Version:
        """The version `name@number`, `name@alias`, `name@tag` of a table or, for a bare name, the newest. Raises NotFound."""
        name, _, which = ref.rpartition("@") if "@" in ref else (ref, "", "")
        known = self.versions.get(name, [])
        if not known:
            raise NotFound("no version of that name", value=ref, fix=nearest(name, self.versions))
        if not which:
            return known[-1]
        number = int(which) if which.isdigit() else self.alias(name, which)
        found = _numbered(known, number) if number is not None else None
        if found is None:
            raise NotFound("no such version", value=ref, fix=f"{name} has versions 1 to {known[-1].number}")
        return found

    def alias(self, name: str, alias: str) -> int | None:
        """The version number that an alias of a model, or a tag of a table, points to; None when it never moved."""
        moves = self.aliases.get((name, alias))
        if moves:
            return moves[-1].version
        tagged = self.pointed.get(f"{name}@{alias}")
        return int(tagged["version"]) if tagged else None

    def held(self, table: str) -> Mapping[str, Any] | None:
        """The rollback that holds a table at a version now: `version` (a number), `token`, `by`, `reason`; None when none does."""
        last = self.rolled.get(table, [])[-1:]
        return last[0] if last and last[0]["holds"] else None

    def same_content(self, name: str, digest: str) -> Version | None:
        """The version of `name` with that content, if there is one."""
        return next((version for version in self.versions.get(name, []) if version.digest == digest), None)

    def run(self, run_id: str) -> RunRecord:
        """A run by id, or the newest run of a step by the step's name. Raises NotFound."""
        if run_id in self.runs:
            return self.runs[run_id]
        of_step = self.newest(run_id)
        if of_step is not None:
            return of_step
        raise NotFound("no such run", value=run_id, fix=nearest(run_id, [*self.runs, *{record.step for record in self.runs.values()}]))

    def newest(self, step: str) -> RunRecord | None:
        """The newest run of a step; None when it was never run."""
        of_step = self.of_step(step)
        return of_step[-1] if of_step else None

    def of_step(self, step: str, status: str | None = None) -> list[RunRecord]:
        """The runs of a step, oldest first, optionally of one status."""
        return [record for record in self.runs.values() if record.step == step and status in (None, record.state.status)]

    def of_launch(self, launch: str) -> list[RunRecord]:
        """The runs that a launch made, oldest first."""
        return [record for record in self.runs.values() if record.launch == launch]

    def moves(self, name: str) -> dict[str, MutableSequence[AliasMove]]:
        """The moves of each alias of a model, oldest first."""
        return {alias: moves for (model, alias), moves in self.aliases.items() if model == name}

    def live(self) -> list[RunRecord]:
        """Runs that have not ended, and that the loop drives: one that a client logs is the client's."""
        return [record for record in self.runs.values() if is_driven(record)]

    def open_launches(self) -> list[LaunchRecord]:
        """Launches that have not ended."""
        return [launch for launch in self.launches.values() if launch.status == "open"]

    def release(self) -> None:
        """Give back what reading them holds: nothing, for records in memory."""

    def apply(self, event: Event) -> None:
        """Fold one more event. An event whose payload was erased keeps its place and says nothing."""
        self.seq = event.seq
        if event.erased:
            return
        noun = event.kind.partition(".")[0]
        if noun == "launch":
            self._launch(event)
        elif noun in ("run", "attempt", "checkpoint", "endpoint", "stop", "rollout"):
            self._run(event)
        elif event.kind == "version.created":
            version = Version.from_json(event.payload["version"])
            self.versions.setdefault(version.name, []).append(version)
        elif event.kind == "alias.moved":
            move = AliasMove(event.payload["version"], event.at_s, event.payload["decision"])
            self.aliases.setdefault((event.subject, event.payload["alias"]), []).append(move)
        elif event.kind == "evaluation.recorded":
            self.evaluations[event.subject] = event.payload
        elif event.kind == "step.accepted":
            self.accepted[event.subject] = event.payload["fingerprint"]
        elif event.kind == "approval.given":
            self.approvals[event.subject] = [*self.approvals.get(event.subject, []), event.payload]
        elif event.kind in ("watch.began", "watch.fired"):
            self.watched[event.subject] = {**event.payload, "at_s": event.at_s}
        elif event.kind == "version.removed":
            self.removed[event.subject] = {**event.payload, "at_s": event.at_s}
        elif event.kind == "version.tagged":
            tags = {**self.tagged.get(event.subject, {}), **event.payload["tags"]}
            self.tagged[event.subject] = {name: value for name, value in tags.items() if value is not None}
        elif event.kind == "artifact.trusted":
            self.trusted[event.subject] = event.payload
        elif event.kind == "snapshot.taken":
            self.snapshots[event.subject] = {**event.payload, "at_s": event.at_s}
        elif event.kind == "table.tagged":
            self.pointed[f"{event.subject}@{event.payload['tag']}"] = {**event.payload, "at_s": event.at_s}
        elif event.kind in ("table.rolled", "table.released"):
            said = {**event.payload, "holds": event.kind == "table.rolled", "at_s": event.at_s}
            self.rolled[event.subject] = [*self.rolled.get(event.subject, []), said]

    def _launch(self, event: Event) -> None:
        payload = event.payload
        if event.kind == "launch.requested":
            targets, force = tuple(payload["targets"]), tuple(payload["force"])
            asked = LaunchRecord(event.subject, payload["mode"], targets, force, payload["spec"], event.at_s)
            asked.on, asked.at = payload.get("on", ""), payload.get("at", "")
            self.launches[event.subject] = asked
        elif event.subject in self.launches:  # else the request's payload was erased
            launch = self.launches[event.subject]
            launch.status, launch.message, launch.finished_at_s = payload["status"], payload.get("message", ""), event.at_s

    def _run(self, event: Event) -> None:
        payload = event.payload
        if event.kind == "run.created":
            state = RunState(event.subject)
            self.runs[event.subject] = RunRecord(
                event.subject, payload["step"], payload["kind"], payload["launch"], event.at_s, state, payload
            )
        elif event.kind == "run.logged":
            state = RunState(event.subject, LOGGED_STATUS[payload.get("status", "RUNNING")])
            step, made = "logged:" + payload["experiment_name"], {**_NOT_OURS, **payload}
            self.runs[event.subject] = RunRecord(event.subject, step, "logged", "", payload["start_ms"] / 1000, state, made)
        record = self.runs.get(event.subject)
        if record is None:
            return
        if event.kind in ("run.logged", "run.changed"):
            _log(record, payload)
            return
        record.state, _ = advance(record.state, event)
        if event.kind == "attempt.started":
            attempt = AttemptRecord(payload["token"], payload["engine"], payload["folder"], payload["handle"], event.at_s)
            record.attempts.append(attempt)
        elif event.kind == "attempt.ended":
            self._attempt_ended(record, event)
        elif event.kind in ("attempt.restarted", "attempt.noticed"):
            for attempt in record.attempts:
                if attempt.token == payload["token"]:
                    (attempt.restarts if event.kind == "attempt.restarted" else attempt.notices).append(payload)
        elif event.kind == "endpoint.ready" and record.state.live and payload["token"] == record.state.token:
            record.port, record.answering = payload["port"], payload["token"]
        elif event.kind.startswith("rollout."):
            record.rollout = payload
        elif event.kind == "run.finished":
            record.ended_at_s = event.at_s
            record.outputs = tuple(payload.get("outputs", ()))
            record.failure, record.message = payload.get("failure"), payload.get("message", "")
            record.metrics, record.params, record.tags = (payload.get(name, {}) for name in ("metrics", "params", "tags"))

    def _attempt_ended(self, record: RunRecord, event: Event) -> None:
        for attempt in record.attempts:
            if attempt.token == event.payload["token"] and attempt.ended_at_s is None:
                attempt.ended_at_s, attempt.status = event.at_s, event.payload["status"]
                attempt.failure, attempt.message = event.payload.get("failure"), event.payload.get("message", "")


def _log(record: RunRecord, payload: Mapping[str, Any]) -> None:
    """What a client of the tracking server said of a run. Only a run of its own takes a status from it."""
    record.params = {**record.params, **payload.get("params", {})}
    record.tags = {name: value for name, value in {**record.tags, **payload.get("tags", {})}.items() if value is not None}
    record.metrics = {**record.metrics, **{name: float(point[0]) for name, point in payload.get("metrics", {}).items()}}
    if record.kind == "logged" and "status" in payload:
        record.state = replace(record.state, status=LOGGED_STATUS[payload["status"]])
    if record.kind == "logged" and "end_ms" in payload:
        record.ended_at_s = payload["end_ms"] / 1000 if payload["end_ms"] is not None else None


def is_driven(run: RunRecord) -> bool:
    """Whether the loop has something to do with a run."""
    return not run.ended and run.kind != "logged"


def _numbered(versions: MutableSequence[Version], number: int) -> Version | None:
    """The version of that number; numbers grow, but need not be places: an event may be erased."""
    place = bisect_left(versions, number, key=lambda version: version.number)
    if place < len(versions) and versions[place].number == number:
        return versions[place]
    return next((version for version in versions if version.number == number), None)  # imported in another order


def fold(events: Iterable[Event]) -> Records:
    """The records after all of `events`."""
    records = Records()
    for event in events:
        records.apply(event)
    return records
