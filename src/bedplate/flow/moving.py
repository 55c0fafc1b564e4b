"""Decisions that people take: an alias moved by hand, a step's result accepted; each with a reason, each recorded.

Does not know: what follows; the next `plan` shows it.
"""

from __future__ import annotations

import getpass

from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.core.event import Draft
from bedplate.core.versions import Version
from bedplate.flow.planner import plan
from bedplate.flow.workspace import Workspace


def promote(workspace: Workspace, ref: str, reason: str) -> Version:
    """Move the alias that the project declares for a model to `NAME@NUMBER`. Raises NotFound, and BedplateError without a reason."""
    version = workspace.records.version(ref)
    declared = workspace.project.spec.models.get(version.name)
    if declared is None:
        raise NotFound("the project declares no such model", value=version.name, fix=nearest(version.name, workspace.project.spec.models))
    _check_reason(reason)
    decision = {"by": getpass.getuser(), "promoted": True, "override": True, "why": reason}
    payload = {"alias": declared.promote.to, "version": version.number, "decision": decision}
    workspace.ledger.append([Draft("alias.moved", version.name, payload)])
    workspace.refresh()
    return version


def accept(workspace: Workspace, step: str, reason: str) -> str:
    """Declare that what the newest successful run of `step` made is good for the step as it is declared now; returns the run's id."""
    _check_reason(reason)
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


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise BedplateError("a decision needs a reason", value=reason, fix='add --reason "why this is right"')
