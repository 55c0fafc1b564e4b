"""Decisions that people take: an alias moved by hand or back, a result accepted, a version removed or tagged, a file vouched for.

Each has a reason and is recorded, and those of the registry are appended only onto the very state that they were decided on: what came in
between is looked at, and an alias that another moved meanwhile makes the command fail.
Does not know: what follows; the next `plan` shows it.
"""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bedplate.core.errors import BedplateError, Busy, NotFound, Outrun, nearest
from bedplate.core.event import Draft
from bedplate.core.loading import load
from bedplate.core.package import OBJECTS
from bedplate.core.package import remove as remove_package
from bedplate.core.versions import Version
from bedplate.flow.facts import location_of, run_is_alive
from bedplate.flow.planner import plan
from bedplate.flow.tables import DECIDING
from bedplate.flow.workspace import Workspace

TRIES = 50
TAG = re.compile(r"[^\s=]{1,250}")


def promote(workspace: Workspace, ref: str, reason: str) -> Version:
    """Move the alias that the project declares for a model to `NAME@NUMBER`.

    Raises NotFound for a version that is not there (any more), BedplateError without a reason, and Outrun when something else happened
    meanwhile.
    """
    version = workspace.records.version(ref)
    _move(workspace, version, reason)
    return version


def rollback(workspace: Workspace, model: str, reason: str, to: int | None = None) -> tuple[Version, Version]:
    """Move a model's alias back to version `to`, or to the one that it pointed to before; returns that, and the one it comes from.

    A version that was removed meanwhile is passed over. Raises NotFound when there is none before, and as `promote` does.
    """
    alias = _alias(workspace, model)
    moves = [move.version for move in workspace.records.moves(model).get(alias, ()) if move.version is not None]
    if not moves or workspace.records.alias(model, alias) is None:
        raise NotFound("the alias points to no version yet", value=f"{model}@{alias}", fix=f"bedplate up {model}")
    present = workspace.records.version(f"{model}@{moves[-1]}")
    earlier = to if to is not None else _before(workspace, model, moves)
    if earlier is None:
        known = f"it never pointed to another: name one of `bedplate models show {model}` with --to"
        raise NotFound("there is no version to go back to", value=present.ref, fix=known)
    version = workspace.records.version(f"{model}@{earlier}")
    if version.number == present.number:
        raise BedplateError("the alias points there already", value=version.ref, fix="name another version with --to")
    _move(workspace, version, reason)
    return version, present


def remove(workspace: Workspace, ref: str, reason: str) -> tuple[Version, int]:
    """Delete the bytes of a version for good; its record stays, with who removed it and why. Returns it and how many bytes went.

    Done twice it ends what a kill left undone. Raises Busy, naming what uses it, while an alias points to it, an endpoint serves it or a
    run reads it, also when that began this very moment; NotFound; and BedplateError without a reason.
    """
    version = workspace.records.version(ref)
    if version.kind != "model":
        raise BedplateError("only versions of models are removed by hand", value=version.ref, fix="name a model: bedplate models list")
    if version.ref not in workspace.records.removed:
        check_reason(reason)

        def removed() -> Draft:
            users = _users(workspace, version)
            if users:
                fix = "move the alias, or bring down what reads it"
                raise Busy(f"{version.ref} is in use: {', '.join(users)}", value=version.ref, fix=fix)
            payload = {"by": getpass.getuser(), "reason": reason, "digest": version.digest}
            return Draft("version.removed", version.ref, payload, key=f"removed/{version.ref}")

        append_decided(workspace, removed)
    freed = _delete(workspace, version)
    return version, freed


def tag(workspace: Workspace, ref: str, tags: Mapping[str, str | None]) -> Version:
    """Set tags of a version, or take them away (None). Raises NotFound, and BedplateError for a name that is none."""
    version = workspace.records.version(ref)
    for name in tags:
        if not TAG.fullmatch(name):
            raise BedplateError("a tag needs a name without spaces", value=name, fix="bedplate models tag NAME@N stage=trial")
    workspace.ledger.append([Draft("version.tagged", version.ref, {"tags": dict(tags), "by": getpass.getuser()})])
    workspace.refresh()
    return version


def trust(workspace: Workspace, sha256: str, reason: str) -> None:
    """Vouch for the one file with this SHA-256: it may be part of a model, though loading it can run code.

    Raises BedplateError for what is no digest, and without a reason.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BedplateError("a file is named by its SHA-256, 64 hexadecimal digits", value=sha256, fix="sha256sum FILE")
    check_reason(reason)
    payload = {"by": getpass.getuser(), "reason": reason}
    workspace.ledger.append([Draft("artifact.trusted", sha256, payload, key=f"trusted/{sha256}")])
    workspace.refresh()


def accept(workspace: Workspace, step: str, reason: str) -> str:
    """Declare that what the newest successful run of `step` made is good for the step as it is declared now; returns the run's id."""
    check_reason(reason)
    planned = plan(workspace, [step]).step(step)
    made = workspace.records.of_step(step, "succeeded")
    if planned.verdict == "waits" or planned.fingerprint is None:
        raise BedplateError("the step waits for steps that it needs", value=planned.why, fix="run or accept those first")
    if not made:
        raise BedplateError("the step was never made", value=step, fix=f"bedplate run {step}")
    payload = {"fingerprint": planned.fingerprint, "run": made[-1].id, "reason": reason, "by": getpass.getuser()}
    workspace.ledger.append([Draft("step.accepted", step, payload)])
    workspace.refresh()
    return made[-1].id


def _move(workspace: Workspace, version: Version, reason: str) -> None:
    """Move the declared alias of a version's model to it, by a named override that is signed."""
    alias = _alias(workspace, version.name)
    check_reason(reason)
    before = workspace.records.alias(version.name, alias)

    def moved() -> Draft:
        gone = workspace.records.removed.get(version.ref)
        if gone is not None:
            what = f"{version.ref} was removed by {gone['by']}: {gone['reason']}"
            raise NotFound(what, value=version.ref, fix="promote another version, or make it again")
        present = workspace.records.alias(version.name, alias)
        if present != before:
            fix = "look what was decided, and decide again"
            raise Outrun("the alias was moved meanwhile", value=f"{version.name}@{present}", fix=fix)
        signed = load(DECIDING, "signed", "decision")
        decision = signed(workspace, version, alias, {"by": getpass.getuser(), "promoted": True, "override": True, "why": reason})
        return Draft("alias.moved", version.name, {"alias": alias, "version": version.number, "decision": decision})

    append_decided(workspace, moved)


def append_decided(workspace: Workspace, decide: Callable[[], Draft | list[Draft]]) -> None:
    """Append what `decide` makes of the records onto the state that it looked at; it decides again when others appended meanwhile."""
    for _ in range(TRIES):
        decided = decide()
        drafts = decided if isinstance(decided, list) else [decided]
        try:
            workspace.ledger.append(drafts, after=workspace.records.seq)
        except Outrun:
            workspace.refresh()
            continue
        workspace.refresh()
        return
    raise Busy("others write to the ledger all the time", value=str(workspace.ledger.path), fix="try again")


def _alias(workspace: Workspace, model: str) -> str:
    declared = workspace.project.spec.trained.get(model)
    if declared is None:
        raise NotFound("the project declares no such model", value=model, fix=nearest(model, workspace.project.spec.trained))
    return declared.promote.to


def _before(workspace: Workspace, model: str, moves: list[int]) -> int | None:
    """The version that the alias pointed to before the present one: a rollback that was itself rolled back goes on backwards."""
    history: list[int] = []  # as a person sees it: moving back to a version forgets what came after it
    for number in moves:
        history = [*history[: history.index(number)], number] if number in history else [*history, number]
    kept = [number for number in history[:-1] if f"{model}@{number}" not in workspace.records.removed]
    return kept[-1] if kept else None


def _users(workspace: Workspace, version: Version) -> list[str]:
    """What uses a version now: aliases that point to it, endpoints that serve it, runs that read it and have not ended."""
    records = workspace.records
    users = [f"alias {alias}" for alias in records.moves(version.name) if records.alias(version.name, alias) == version.number]
    for run in records.live():
        if version.ref in run.made.get("inputs", {}).values():
            serving = run.kind == "endpoint" and run_is_alive(run)
            users.append(f"{'endpoint' if serving else 'run'} {run.step if serving else run.id}")
    return users


def _delete(workspace: Workspace, version: Version) -> int:
    """Delete bytes, in place of which a tombstone stays, and those of the store that nothing links to any more.

    A place that another version names as well keeps its bytes.
    """
    place = location_of(workspace, version)
    others = [each for each in workspace.records.versions[version.name] if each.location == version.location and each.ref != version.ref]
    if any(each.ref not in workspace.records.removed for each in others):
        return 0
    gone = workspace.records.removed[version.ref]
    freed = remove_package(place, {"ref": version.ref, "by": gone["by"], "reason": gone["reason"], "at_s": gone["at_s"]})
    if (source := place.parent / "model").is_dir() and source != place:  # what a command left, from which the version was made
        shutil.rmtree(source)
    _sweep(workspace.state / OBJECTS, version)
    return freed


def _sweep(store: Path, version: Version) -> None:
    for facts in version.meta.get("files", {}).values():
        kept = store / facts["sha256"][:2] / facts["sha256"]
        if kept.is_file() and kept.stat().st_nlink == 1:
            kept.unlink()


def check_reason(reason: str) -> None:
    """Raise BedplateError for a reason that says nothing."""
    if not reason.strip():
        raise BedplateError("a decision needs a reason", value=reason, fix='add --reason "why this is right"')
