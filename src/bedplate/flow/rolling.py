"""What a router says of its rollout, as the ledger keeps it. A version that was taken back loses its alias by a recorded, signed decision.

The alias is moved before the event is appended: a loop that is killed between the two finds it moved, and appends the event.
Does not know: when a rollout goes on or back (`serve.rollout`), or who answers meanwhile (`steps.routing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.core.event import Draft
from bedplate.core.record import RunRecord
from bedplate.flow.moving import rollback
from bedplate.flow.workspace import Workspace


def event(workspace: Workspace, run: RunRecord, body: Mapping[str, Any], key: str) -> Draft:
    """The event of one entry of a router's journal (`core.journal`: `rollout`)."""
    if body["what"] == "ended" and body["outcome"] == "back":
        _move_back(workspace, run, body)
    return Draft(f"rollout.{body['what']}", run.id, {name: value for name, value in body.items() if name != "what"}, key)


def _move_back(workspace: Workspace, run: RunRecord, body: Mapping[str, Any]) -> None:
    """To the version that answered before; nothing where the alias was moved by others meanwhile, or the model is the same."""
    model, _, number = body["to"].partition("@")
    before = body["from"].partition("@")[2]
    present = workspace.records.alias(model, run.made["spec"]["alias"])
    if before and before != number and present == int(number):
        rollback(workspace, model, f"the rollout of {run.step} went back: {body['why']}", int(before))
