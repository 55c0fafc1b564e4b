"""Triggers: when new data, changed code, drift or the clock asks for a launch, and why.

What a trigger knows is in the ledger: an event when it was first seen, and one, in the same transaction as the launch it asks for, each
time it fired. So a watcher that is killed asks for nothing twice and forgets nothing; a time of day that passed meanwhile is made up for
once. A cause for which it fired already does not fire again: what failed is tried again when something changes, or by hand. While a
budget is spent nothing is asked for; what became stale meanwhile is asked for afterwards.
Does not know: how a launch is driven, or what it costs (`billing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from bedplate.core.clock import duration_s, iso
from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError, DataError, nearest
from bedplate.core.event import Draft
from bedplate.core.loading import load
from bedplate.core.plan import PlannedStep
from bedplate.core.spec import Dataset, Trigger
from bedplate.core.versions import Version
from bedplate.data.cut import read_cut
from bedplate.flow.facts import Facts, gather
from bedplate.flow.lakes import lake_of
from bedplate.flow.planner import plan_steps, steps_for
from bedplate.flow.tables import POLICY
from bedplate.flow.workspace import Workspace, launch_wanted
from bedplate.models.drift import MEASURES

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86400.0


@dataclass(frozen=True)
class Due:
    """A launch that a trigger asks for: the `condition` that holds, its `cause` as a digest, `why` in words, the `values` measured."""

    trigger: str
    condition: str
    mode: str
    targets: tuple[str, ...]
    why: str
    cause: str
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Watcher:
    """Looks at a project's triggers. What it remembers only saves measuring twice."""

    workspace: Workspace
    _measured: dict[tuple[str, str, str, str], float] = field(default_factory=dict)

    def due(self) -> tuple[list[Due], list[str]]:
        """The launches that are due now, and what kept a trigger from being judged (a source that is missing, code that is no Python)."""
        found, troubles = [], []
        self.workspace.refresh()
        budget = self.workspace.project.spec.policies.budget
        if budget is not None and load(POLICY, "spent", "pass")(self.workspace):
            return [], [f"nothing is launched: the budget of {budget} is spent"]
        for name, trigger in self.workspace.project.spec.watch.items():
            try:
                self._begin(name)
                due = self._due(name, trigger)
            except BedplateError as error:
                troubles.append(f"{name}: {error.one_line()}")
                continue
            if due is not None:
                found.append(due)
        return found, troubles

    def unfinished(self) -> list[str]:
        """The launches that triggers asked for and that have not ended: those of a watcher that was killed."""
        known = self.workspace.refresh()
        launches = [known.launches.get(last.get("launch", "")) for last in known.watched.values()]
        return [launch.id for launch in launches if launch is not None and launch.status == "open"]

    def fire(self, due: Due) -> str:
        """Ask for the launch, and record that and why in the same transaction; returns the launch's id."""
        wanted = launch_wanted(self.workspace, due.mode, due.targets, why=f"watch {due.trigger}: {due.why}")
        causes = {**self.workspace.records.watched.get(due.trigger, {}).get("causes", {}), due.condition: due.cause}
        payload = {"launch": wanted.subject, "why": due.why, "causes": causes, "values": dict(due.values)}
        self.workspace.ledger.append([wanted, Draft("watch.fired", due.trigger, payload)])
        self.workspace.refresh()
        return wanted.subject

    def _begin(self, name: str) -> None:
        if name not in self.workspace.records.watched:
            self.workspace.ledger.append([Draft("watch.began", name, {}, key=f"watch/{name}")])
            self.workspace.refresh()

    def _due(self, name: str, trigger: Trigger) -> Due | None:
        last, now_s = self.workspace.records.watched[name], self.workspace.clock.now()
        launch = self.workspace.records.launches.get(last.get("launch", ""))
        if launch is not None and (launch.status == "open" or now_s - last["at_s"] < duration_s(trigger.pause)):
            return None
        for due in self._conditions(name, trigger, last["at_s"], now_s):
            if due.cause != last.get("causes", {}).get(due.condition):
                return due
        return None

    def _conditions(self, name: str, trigger: Trigger, last_s: float, now_s: float) -> Iterator[Due]:
        scheduled = _scheduled(trigger, last_s, now_s)
        if scheduled:
            yield Due(name, "schedule", trigger.mode, trigger.targets, scheduled, digest([scheduled, now_s]))
        if trigger.changed:
            changes = self._stale(trigger)
            if changes:
                yield Due(name, "change", trigger.mode, trigger.targets, "; ".join(changes), digest(changes))
        if trigger.drift:
            yield from self._drifted(name, trigger)

    def _stale(self, trigger: Trigger) -> dict[str, str]:
        """What made steps of the trigger's targets stale, with what it is now."""
        steps = steps_for(self.workspace.project.spec, trigger.targets)
        facts = gather(self.workspace, steps)
        planned = plan_steps(self.workspace.project.name, trigger.targets, steps, facts)
        changes: dict[str, str] = {}
        for each in planned.steps:
            if each.verdict == "run" and (each.step.name, each.fingerprint) not in facts.active:
                changes |= _changes(each, facts, trigger.changed)
        return changes

    def _drifted(self, name: str, trigger: Trigger) -> Iterator[Due]:
        over: dict[str, float] = {}
        seen = []
        for place, limit in trigger.drift.items():
            dataset, _, column = place.partition(".")
            if dataset not in self.workspace.project.spec.datasets:
                known = nearest(dataset, self.workspace.project.spec.datasets)
                raise BedplateError("a drift names no dataset", value=place, fix=known)
            fresh = self._unmeasured(name, dataset)
            if fresh is not None:
                yield fresh
                return
            value, refs = self._drift(trigger, dataset, column)
            seen.append(refs)
            if value > limit:  # never for NaN: without production or without new rows nothing has drifted
                over[f"{trigger.measure}({place})"] = value
        if over:
            shown = ", ".join(f"{what} is {value:.3g}" for what, value in over.items())
            yield Due(name, "drift", trigger.mode, trigger.targets, f"drift: {shown}", digest([sorted(over), seen]), over)

    def _unmeasured(self, name: str, dataset: str) -> Due | None:
        """The launch that brings a dataset into the lake, if its source has more than was read."""
        steps = steps_for(self.workspace.project.spec, [dataset])
        facts = gather(self.workspace, steps)
        planned = plan_steps(self.workspace.project.name, [dataset], steps, facts)
        if not planned.to_run:
            return None
        cause = digest([dataset, {source: facts.sources[source] for source in sorted(facts.sources)}])
        return Due(name, f"measure {dataset}", "run", (dataset,), f"{dataset} has new data, whose drift is to be measured", cause)

    def _drift(self, trigger: Trigger, dataset: str, column: str) -> tuple[float, list[str]]:
        """How far a column moved, and the two versions compared; NaN when production knows no version of it."""
        before = self._trained_on(trigger, dataset)
        after = self.workspace.records.version(dataset)
        if before is None or before.ref == after.ref:
            return float("nan"), []
        key = (before.ref, after.ref, column, trigger.measure)
        if key not in self._measured:
            declared = self.workspace.project.spec.datasets[dataset]
            since = {int(part): offset for part, offset in before.meta.get("offsets", {}).items()} if declared.topic else None
            sides = self._column(dataset, declared, before, column), self._column(dataset, declared, after, column, since)
            self._measured[key] = MEASURES[trigger.measure](*sides)
        return self._measured[key], [before.ref, after.ref]

    def _column(
        self, name: str, dataset: Dataset, version: Version, column: str, since: Mapping[int, int] | None = None
    ) -> npt.NDArray[Any]:
        """A column of a cut (of a stream only what came `since`), as numbers with NaN for null, or as texts."""
        table = read_cut(lake_of(self.workspace), name, version.meta["table_version"], dataset, since)
        if column not in table.column_names:
            raise DataError("the dataset has no such column", value=f"{name}.{column}", fix=nearest(column, table.column_names))
        values = table[column]
        if pat.is_integer(values.type) or pat.is_floating(values.type) or pat.is_boolean(values.type):
            return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
        return np.array([str(value) for value in values.to_pylist()])

    def _trained_on(self, trigger: Trigger, dataset: str) -> Version | None:
        """The version of `dataset` that production of one of the trigger's models was trained on."""
        records = self.workspace.records
        gates = [step for step in steps_for(self.workspace.project.spec, trigger.targets) if step.kind == "gate"]
        for gate in gates:
            number = records.alias(gate.name, gate.spec["promote"]["to"])
            trained = records.runs.get(records.version(f"{gate.name}@{number}").run) if number else None
            refs = trained.made["inputs"].values() if trained is not None else ()
            for made in (records.runs.get(records.version(ref).run) for ref in refs):
                ref = made.made["inputs"].get(dataset) if made is not None else None
                if ref is not None:
                    return records.version(ref)
        return None


def _scheduled(trigger: Trigger, last_s: float, now_s: float) -> str:
    """Why the clock asks for a launch, empty when it does not."""
    if trigger.every is not None and now_s - last_s >= duration_s(trigger.every):
        return f"every {trigger.every}: the last time was {iso(last_s)}"
    if trigger.at is not None:
        latest_s = _latest(trigger.at, now_s)
        if latest_s > last_s:
            return f"at {trigger.at}: it was due {iso(latest_s)}"
    return ""


def _latest(at: str, now_s: float) -> float:
    """The newest instant, not after now, at which it was that time of day (on that day of the week)."""
    day, _, clock = at.rpartition(" ")
    hours, _, minutes = clock.partition(":")
    now = datetime.fromtimestamp(now_s, tz=UTC)
    moment = now.replace(hour=int(hours), minute=int(minutes), second=0, microsecond=0)
    if day:
        moment -= timedelta(days=(moment.weekday() - DAYS.index(day)) % len(DAYS))
    if moment > now:
        moment -= timedelta(days=len(DAYS) if day else 1)
    return moment.timestamp()


def _changes(planned: PlannedStep, facts: Facts, kinds: tuple[str, ...]) -> dict[str, str]:
    """What of a step that would run changed since it ran last, of the `kinds`: a phrase, and what stands for it now."""
    step = planned.step
    made = facts.made[step.name]
    before = made[0].run if made else facts.serving.get(step.name)
    if before is None:
        return {} if step.kind == "endpoint" else {f"{step.name} was never made": str(planned.fingerprint)}
    parts: Mapping[str, Any] = before.made.get("components", {})
    found: dict[str, str] = {}
    if "data" in kinds:
        then = parts.get("sources", {})
        found |= {f"new data in {source}": facts.sources[source] for source in step.sources if facts.sources[source] != then.get(source)}
    if "code" in kinds:
        code = facts.code.get(step.name)
        if code is not None and code.digest != parts.get("code"):
            found[f"the code of {step.name} changed"] = code.digest
        if digest(dict(step.spec)) != parts.get("spec"):
            found[f"the declaration of {step.name} changed"] = digest(dict(step.spec))
    return found
