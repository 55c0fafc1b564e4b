"""The loop: one tick reads journals, advances runs, performs commands and starts what has become ready.

It holds the project's `loop` lease; whoever has it drives every open launch and every live run, also those that a killed loop left:
identity and journals are on disk, so adoption is nothing special. Submitting is idempotent and is recorded afterwards; the end of an
attempt and all that follows from it are one transaction.
Does not know: how progress is shown, or what a step computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bedplate.cluster.place import ELSEWHERE, fits
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Identity, boot_id, is_alive, own_identity
from bedplate.core.errors import BedplateError, Busy, Fenced, Outrun
from bedplate.core.event import Draft
from bedplate.core.journal import Entry, JournalReader
from bedplate.core.ledger import Lease
from bedplate.core.loading import load
from bedplate.core.plan import Plan, PlannedStep, Step
from bedplate.core.protocols import Launcher
from bedplate.core.record import LaunchRecord, RunRecord
from bedplate.core.run import Command, Finish, Start, advance, pending_command
from bedplate.core.spec import Resources
from bedplate.flow.accept import Findings, finished, storable
from bedplate.flow.facts import Facts, Made, gather
from bedplate.flow.launching import make_attempt, run_created, waivers
from bedplate.flow.planner import plan_steps, steps_at
from bedplate.flow.tables import LAUNCHERS, POLICY, ROLLOUTS, SERIES, SIGNING
from bedplate.flow.workspace import Workspace

LEASE = "loop"
LEASE_S = 15.0
POLL_S = 0.3
SIGN_S = 10.0
BUDGET_S = 2.0
STARTS_BEFORE_READY = 3
PREVIOUS = 7  # checkpoints that a newer one names, to go back to where it is damaged
NOTED = {"restart": "attempt.restarted", "notice": "attempt.noticed"}


@dataclass
class Watched:
    """What the loop keeps of a live attempt: its journal's reader and what the journal said so far."""

    token: int
    reader: JournalReader
    findings: Findings = field(default_factory=Findings)
    polled_at_s: float = 0.0
    told: str = ""
    ready: bool = False
    deaths: int = 0


@dataclass
class Loop:
    """The state of a hosted loop; everything in it can be rebuilt from the ledger and the journals."""

    workspace: Workspace
    lease: Lease
    launchers: dict[str, Launcher] = field(default_factory=dict)
    watched: dict[str, Watched] = field(default_factory=dict)
    plans: dict[str, tuple[int, Plan | None]] = field(default_factory=dict)
    renewed_at_s: float = 0.0
    signed_at_s: float = 0.0
    billed_at_s: float = 0.0

    def tick(self) -> None:
        """Do once all that can be done now. Raises Fenced when another loop took over."""
        self._renew()
        records = self.workspace.refresh()
        for run in records.live():
            self._follow(run)
        for launch in records.open_launches():
            self._drive(launch)
        for run in self.workspace.records.live():
            if not run.state.live:
                self._follow(run)  # what was just created starts in this tick, not in the next
        self._mind_budget()
        if self.workspace.clock.now() - self.signed_at_s > SIGN_S:
            self.sign()

    def _mind_budget(self) -> None:
        now_s = self.workspace.clock.now()
        if self.workspace.project.spec.policies.budget is not None and now_s - self.billed_at_s > BUDGET_S:
            self.billed_at_s = now_s
            drafts = load(POLICY, "stops", "pass")(self.workspace)
            if drafts:
                self._append(*drafts)

    def sign(self) -> None:
        """Sign the head of the chain and copy it outside."""
        load(SIGNING, "sign", "function")(self.workspace.ledger, self.workspace.settings.home, self.workspace.clock)
        self.signed_at_s = self.workspace.clock.now()

    def _renew(self) -> None:
        if self.workspace.clock.now() - self.renewed_at_s > LEASE_S / 3:
            self.lease = self.workspace.ledger.renew(self.lease, LEASE_S)
            self.renewed_at_s = self.workspace.clock.now()

    def _append(self, *drafts: Draft, after: int | None = None) -> None:
        self.workspace.ledger.append([replace(draft, payload=storable(draft.payload)) for draft in drafts], self.lease, after)
        self.workspace.refresh()

    def _launcher(self, run: RunRecord) -> Launcher:
        placed = run.made["placement"]
        engine = run.attempts[-1].engine if run.attempts else placed["engine"]
        name = f"{engine}:{placed['pool']}" if engine in ELSEWHERE else engine
        if name not in self.launchers:
            own = engine not in ELSEWHERE
            made = load(LAUNCHERS, engine, "engine")() if own else load(POLICY, "launcher", "pass")(self.workspace, placed["pool"])
            self.launchers[name] = made
        return self.launchers[name]

    # -- one run ------------------------------------------------------------------------------------------------------------------

    def _follow(self, run: RunRecord) -> None:
        if not run.state.live:
            command = self._pending(run)
            if isinstance(command, Start):
                self._start(run, command)
            elif isinstance(command, Finish):
                self._append(*finished(self.workspace, run, command, Findings()))
            return
        watched = self._watch(run)
        ended = self._ingest(run, watched, watched.reader.read())
        if ended is None and self.workspace.clock.now() - watched.polled_at_s > POLL_S:
            watched.polled_at_s = self.workspace.clock.now()
            ended = self._poll(run, watched)
        if ended is not None:
            self._end(run, watched, ended)
        elif run.state.stopping not in ("no", watched.told):
            watched.told = run.state.stopping
            self._launcher(run).cancel(run.attempts[-1].handle, "cancel" if watched.told == "cancel" else "stop")

    def _pending(self, run: RunRecord) -> Command | None:
        """What a run that is not live needs. One that is to stop is adopted first if a killed loop may have started it unrecorded."""
        command, token = pending_command(run.state), run.state.token + 1
        unrecorded = run.state.ending is None and (self.workspace.attempt_folder(run.id, token) / ATTEMPT_FILE).exists()
        return Start(token, run.state.checkpoint) if isinstance(command, Finish) and unrecorded else command

    def _start(self, run: RunRecord, command: Start) -> None:
        attempt = make_attempt(self.workspace, run, command.token, command.checkpoint)
        attempt.path.mkdir(parents=True, exist_ok=True)
        if not (attempt.path / ATTEMPT_FILE).exists():
            write_json(attempt.path / ATTEMPT_FILE, attempt.to_json())
        engine = run.made["placement"]["engine"]
        handle = self._launcher(run).submit(attempt)
        folder = str(attempt.path.relative_to(self.workspace.state))
        payload = {"token": command.token, "engine": engine, "folder": folder, "handle": handle}
        self._append(Draft("attempt.started", run.id, payload, key=f"{run.id}/{command.token}/started"))

    def _watch(self, run: RunRecord) -> Watched:
        watched = self.watched.get(run.id)
        if watched is None or watched.token != run.state.token:
            reader = JournalReader(self.workspace.attempt_folder(run.id, run.state.token))
            watched = self.watched[run.id] = Watched(run.state.token, reader)
        return watched

    def _ingest(self, run: RunRecord, watched: Watched, entries: list[Entry]) -> dict[str, Any] | None:
        drafts: list[Draft] = []
        ended = None
        for entry in entries:
            key = f"{run.id}/{watched.token}/{entry.writer}/{entry.number}"
            if entry.kind == "checkpoint":
                drafts.append(self._checkpoint(run, watched, entry, key))
            elif entry.kind in NOTED:
                drafts.append(Draft(NOTED[entry.kind], run.id, {**entry.body, "token": watched.token}, key))
            elif entry.kind == "ready":
                drafts.append(Draft("endpoint.ready", run.id, {**entry.body, "token": watched.token}, key))
                watched.ready = True
            elif entry.kind == "rollout":
                drafts.append(load(ROLLOUTS, "event", "event")(self.workspace, run, {**entry.body, "token": watched.token}, key))
            elif entry.kind == "process" and run.kind == "endpoint" and not watched.ready:
                watched.deaths += 1
            elif entry.kind == "ended":
                ended = {"token": watched.token, **entry.body}
            watched.findings.add(entry)
        self._store_metrics(run, watched, entries)
        if drafts:
            self._append(*drafts)
        if ended is None and watched.deaths >= STARTS_BEFORE_READY:
            self._launcher(run).cancel(run.attempts[-1].handle, "cancel")
            message = watched.findings.failure.get(
                "message", f"it ended {watched.deaths} times before it answered; see `bedplate logs {run.id}`"
            )
            ended = {"token": watched.token, "status": "failed", "failure": "user_error", "message": message}
        return ended

    def _checkpoint(self, run: RunRecord, watched: Watched, entry: Entry, key: str) -> Draft:
        before = watched.findings.checkpoints or ([run.state.checkpoint] if run.state.checkpoint else [])
        previous = [{name: known[name] for name in ("step", "location", "digest")} for known in before[-PREVIOUS:]]
        return Draft("checkpoint.committed", run.id, {**entry.body, "token": watched.token, "previous": previous[::-1]}, key)

    def _store_metrics(self, run: RunRecord, watched: Watched, entries: list[Entry]) -> None:
        points: dict[str, list[tuple[int, float, int, dict[str, float]]]] = {}
        for entry in entries:
            if entry.kind == "metric":
                points.setdefault(entry.writer, []).append((entry.number, entry.at_s, entry.body["step"], entry.body["values"]))
        if points:
            series = load(SERIES, "series", "store")(self.workspace.state / "series")
            for writer, values in points.items():
                series.append(run.id, watched.token, writer, values)

    def _poll(self, run: RunRecord, watched: Watched) -> dict[str, Any] | None:
        if self._launcher(run).poll(run.attempts[-1].handle) != "gone":
            return None
        ended = self._ingest(run, watched, watched.reader.read())  # what it wrote before it went
        return ended or {"token": watched.token, "status": "failed", **_gone(run.attempts[-1].handle)}

    def _end(self, run: RunRecord, watched: Watched, ended: dict[str, Any]) -> None:
        draft = Draft("attempt.ended", run.id, ended, key=f"{run.id}/{watched.token}/ended")
        while run.id in self.watched:
            seq = self.workspace.records.seq
            drafts = [draft]
            for command in advance(self.workspace.records.runs[run.id].state, draft)[1]:
                if isinstance(command, Finish):
                    drafts += finished(self.workspace, run, command, watched.findings)
            try:
                self._append(*drafts, after=seq)  # what a gate decides holds for the production that it saw
                del self.watched[run.id]
            except Outrun:
                self.workspace.refresh()

    # -- one launch ---------------------------------------------------------------------------------------------------------------

    def plan_of(self, launch: LaunchRecord) -> Plan | None:
        """The newest plan that this loop made for a launch."""
        known = self.plans.get(launch.id)
        return known[1] if known else None

    def _drive(self, launch: LaunchRecord) -> None:
        known = self.plans.get(launch.id)
        if known is not None and known[0] == self.workspace.records.seq:
            return
        seq = self.workspace.records.seq
        try:
            workspace = self.workspace.with_spec(launch.spec)
            steps = steps_at(workspace, launch.targets, launch.at)
            facts = self._facts(workspace, launch, steps)
            plan = plan_steps(workspace.project.name, launch.targets, steps, facts, launch.force, launch.on)
            self.plans[launch.id] = (seq, plan)
            self._push(workspace, launch, plan, facts)
        except (Busy, Fenced):
            raise
        except Outrun:
            self.workspace.refresh()  # and the next tick plans with what is new
        except BedplateError as error:
            if self._under_way(launch):  # they end first; what they append is the next reason to look here
                self.plans[launch.id] = (seq, self.plan_of(launch))
            else:
                self._finish_launch(launch, "failed", error.one_line())

    def _under_way(self, launch: LaunchRecord) -> list[RunRecord]:
        return [run for run in self.workspace.records.live() if run.launch == launch.id and run.status != "ready"]

    def _facts(self, workspace: Workspace, launch: LaunchRecord, steps: tuple[Step, ...]) -> Facts:
        facts = gather(workspace, steps, launch.at)
        mine = {
            run.step: run for run in self.workspace.records.runs.values() if run.launch == launch.id and run.state.status == "succeeded"
        }
        pinned = {step: made for step, run in mine.items() for made in facts.made.get(step, ()) if made.run.id == run.id}
        return replace(facts, pinned=pinned)

    def _push(self, workspace: Workspace, launch: LaunchRecord, plan: Plan, facts: Facts) -> None:
        runs = [run for run in self.workspace.records.runs.values() if run.launch == launch.id]
        back = next((run for run in runs if run.rollout is not None and run.rollout["outcome"] == "back"), None)
        if back is not None:
            self._end_back(launch, back)
            return
        unmade = {planned.step.name for planned in plan.to_run}
        halted = next((run for run in runs if run.state.status in ("failed", "stopped", "cancelled") and run.step in unmade), None)
        if halted is not None:
            if not self._under_way(launch):
                status = "failed" if halted.state.status == "failed" else "stopped"
                self._finish_launch(
                    launch, status, f"{halted.id} {halted.state.status}" + (f": {halted.message}" if halted.message else "")
                )
            return
        if not plan.to_run:
            if not self._under_way(launch) and not self._retire(plan):
                self._finish_launch(launch, "done", "")
            return
        self._start_ready(workspace, launch, plan, facts)

    def _end_back(self, launch: LaunchRecord, back: RunRecord) -> None:
        """Stop a run whose version was taken back, then end its launch: that it is tried again is for whoever asks again."""
        if not back.ended and back.state.stopping == "no":
            self._append(Draft("stop.requested", back.id, {"how": "stop", "why": "taken back"}))
        elif back.ended and not self._under_way(launch):
            why = (back.rollout or {}).get("why", "")
            self._finish_launch(launch, "failed", f"{back.id} was taken back: {why}")

    def _start_ready(self, workspace: Workspace, launch: LaunchRecord, plan: Plan, facts: Facts) -> None:
        made = {
            planned.step.name: _made(planned, facts)
            for planned in plan.steps
            if planned.verdict == "fresh" and planned.step.kind != "endpoint"
        }
        pools = {pool.name: pool for pool in facts.pools}
        running = {name: self._running(name, name == facts.pools[0].name) for name in pools}
        for planned in plan.steps:
            if planned.verdict != "run" or (planned.step.name, planned.fingerprint) in facts.active:
                continue
            if self.workspace.records.launches[launch.id].status != "open":
                return
            if facts.ruled:
                load(POLICY, "admit", "pass")(workspace, planned, plan, facts.pools[0].machines[0])
            assert planned.placement is not None
            beside = running[planned.placement.pool]
            if fits(beside, planned.step.resources, pools[planned.placement.pool]):
                seq = self.workspace.records.seq
                created = run_created(workspace, launch.id, planned, made, facts)
                self._append(*waivers(workspace, planned.step, created), created, after=seq)
                beside.append(planned.step.resources)

    def _running(self, pool: str, here: bool) -> list[Resources]:
        """What runs now in a pool, this machine by any name; endpoints that answer wait most of the time, and do not count."""
        live = [(run, run.made["placement"]) for run in self.workspace.records.live() if run.status != "ready"]
        return [_resources(run) for run, at in live if at["pool"] == pool or (here and at["engine"] not in ELSEWHERE)]

    def _retire(self, plan: Plan) -> bool:
        """Stop replicas that a newer one has replaced; whether any still lives. While it takes over by steps they stay."""
        old, rolling = [], False
        for planned in plan.steps:
            if planned.step.kind == "endpoint":
                others = [run for run in self.workspace.records.of_step(planned.step.name) if not run.ended and run.id != planned.made_by]
                newest = self.workspace.records.runs.get(planned.made_by or "")
                if newest is not None and newest.rollout is not None and newest.rollout["outcome"] == "open":
                    rolling = rolling or bool(others)
                else:
                    old += others
        drafts = [Draft("stop.requested", run.id, {"how": "stop", "why": "replaced"}) for run in old if run.state.stopping == "no"]
        if drafts:
            self._append(*drafts)
        return rolling or bool(old)

    def _finish_launch(self, launch: LaunchRecord, status: str, message: str) -> None:
        self._append(Draft("launch.finished", launch.id, {"status": status, "message": message}, key=f"{launch.id}/finished"))
        self.sign()


def _made(planned: PlannedStep, facts: Facts) -> Made:
    pinned = facts.pinned.get(planned.step.name)
    return pinned or next(made for made in facts.made[planned.step.name] if made.run.id == planned.made_by)


def _gone(handle: Mapping[str, Any]) -> dict[str, Any]:
    """What it means that nothing of an attempt is left and it did not say why: its machine is gone, or somebody killed its shim."""
    if handle.get("node") is not None:
        return {"failure": "node_lost", "message": f"the machine {handle['node']} is gone", "node": handle["node"]}
    if handle.get("boot_id", boot_id()) != boot_id():
        return {"failure": "node_lost", "message": "the machine was started again"}
    return {"failure": "worker_lost", "message": "its shim is gone"}


def _resources(run: RunRecord) -> Resources:
    return Resources.model_validate(run.made["resources"])


def holder_is_dead(lease: Lease) -> bool:
    """Whether the process that holds a lease ended on this machine; a holder elsewhere counts as alive."""
    identity = Identity(**json.loads(lease.holder))
    return identity.boot_id == own_identity(0).boot_id and not is_alive(identity)


@contextmanager
def hosted(workspace: Workspace) -> Iterator[Loop | None]:
    """The project's loop, hosted by this process; None while another live process hosts it."""
    present = workspace.ledger.lease(LEASE)
    broken = present if present is not None and holder_is_dead(present) else None
    try:
        lease = workspace.ledger.acquire(LEASE, json.dumps(asdict(own_identity(0))), LEASE_S, broken)
    except Busy:
        yield None
        return
    loop = Loop(workspace, lease, renewed_at_s=workspace.clock.now(), signed_at_s=workspace.clock.now())
    try:
        yield loop
    finally:
        loop.sign()
        workspace.ledger.release(loop.lease)
