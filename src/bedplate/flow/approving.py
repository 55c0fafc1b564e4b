"""Approvals: a version that the gate left waiting moves when enough people said so, each with a signed reason.

A person is the user that the operating system names. The move and the last approval are one transaction.
Does not know: how many must approve (the project's `promote.approvals`, as the gate recorded it).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.core.clock import iso
from bedplate.core.errors import BedplateError
from bedplate.core.event import Draft
from bedplate.core.heads import signing_key
from bedplate.core.versions import Version
from bedplate.flow.deciding import signed
from bedplate.flow.workspace import Workspace
from bedplate.models.dsse import sign, statement

PREDICATE_TYPE = "https://bedplate.dev/attestations/approval/v1"


@dataclass(frozen=True)
class Approved:
    """Where an approval left a version: who approved so far, who is `missing` (a phrase, empty when nobody is), whether the alias moved."""

    version: str
    alias: str
    people: tuple[str, ...]
    missing: str

    @property
    def moved(self) -> bool:
        """Whether that was the last one."""
        return not self.missing


def approve(workspace: Workspace, ref: str, reason: str) -> Approved:
    """Record that this user approves the version `ref`, and move the alias when nobody is missing any more.

    Raises BedplateError when nothing waits, this user's word is not asked for or was given, or production moved since; NotFound for no
    version; Outrun when somebody else wrote at the same moment.
    """
    if not reason.strip():
        raise BedplateError("an approval needs a reason", value=reason, fix='add --reason "what was looked at"')
    version = workspace.records.version(ref)
    evaluation = _waiting(workspace, version)
    pending, person = evaluation["decision"]["pending"], getpass.getuser()
    given = [each for each in workspace.records.approvals.get(version.ref, ()) if each["evaluation"] == evaluation["run"]]
    _check_person(person, pending, [each["by"] for each in given])
    payload = _signed_approval(workspace, version, evaluation, person, reason)
    drafts = [Draft("approval.given", version.ref, payload, key=f"{evaluation['run']}/approval/{person}")]
    everybody = [*given, payload]
    missing = _missing(pending, [each["by"] for each in everybody])
    if not missing:
        drafts.append(_move(workspace, version, evaluation, everybody))
    workspace.ledger.append(drafts, after=workspace.records.seq)
    workspace.refresh()
    return Approved(version.ref, evaluation["alias"], tuple(each["by"] for each in everybody), missing)


def _waiting(workspace: Workspace, version: Version) -> Mapping[str, Any]:
    """The evaluation that left `version` waiting."""
    evaluation = workspace.records.evaluations.get(version.name, {})
    decision = evaluation.get("decision", {})
    if evaluation.get("candidate") != version.ref or not decision.get("pending"):
        why = decision.get("why") if evaluation.get("candidate") == version.ref else None
        fix = "only a version that the gate left waiting is approved; see `bedplate explain " + version.name + "`"
        raise BedplateError("no decision waits for approval", value=why or version.ref, fix=fix)
    present = workspace.records.alias(version.name, evaluation["alias"])
    if present == version.number:
        raise BedplateError(f"{version.ref} is in {evaluation['alias']} already", value=version.ref, fix="nothing is left to approve")
    if (f"{version.name}@{present}" if present else None) != evaluation["production"]:
        fix = f"let the gate judge again: bedplate up {version.name} --force {version.name}"
        raise BedplateError(f"{evaluation['alias']} moved since the gate compared", value=f"{version.name}@{present}", fix=fix)
    return evaluation


def _check_person(person: str, pending: int | Sequence[str], before: Sequence[str]) -> None:
    if not isinstance(pending, int) and person not in pending:
        raise BedplateError("your approval is not asked for", value=person, fix=f"ask {', '.join(pending)}")
    if person in before:
        raise BedplateError("you approved it already", value=person, fix=f"still missing: {_missing(pending, before)}")


def _missing(pending: int | Sequence[str], people: Sequence[str]) -> str:
    if not isinstance(pending, int):
        return ", ".join(name for name in pending if name not in people)
    left = pending - len(set(people))
    return "" if left <= 0 else "1 more person" if left == 1 else f"{left} more people"


def _signed_approval(workspace: Workspace, version: Version, evaluation: Mapping[str, Any], person: str, reason: str) -> dict[str, Any]:
    said = {"by": person, "reason": reason, "alias": evaluation["alias"], "evaluation": evaluation["run"]}
    predicate = {**said, "at": iso(workspace.clock.now())}
    envelope = sign(statement({version.ref: version.digest}, PREDICATE_TYPE, predicate), signing_key(workspace.settings.home))
    return {**said, "envelope": envelope}


def _move(workspace: Workspace, version: Version, evaluation: Mapping[str, Any], approvals: Sequence[Mapping[str, Any]]) -> Draft:
    judged = {name: value for name, value in evaluation["decision"].items() if name not in ("pending", "envelope")}
    people = [{"by": each["by"], "reason": each["reason"]} for each in approvals]
    why = "promoted: " + judged["why"].partition(": ")[2] + "; approved by " + ", ".join(each["by"] for each in people)
    decision = {**judged, "promoted": True, "why": why, "approvals": people}
    payload = {"alias": evaluation["alias"], "version": version.number}
    made = signed(workspace, version, evaluation["alias"], decision, evaluation)
    return Draft("alias.moved", version.name, {**payload, "decision": made}, key=f"{evaluation['run']}/alias")
