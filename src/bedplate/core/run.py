"""The life of a run as a pure state machine: `advance(state, event) -> (state, commands)`.

Retry, stop and adoption all pass through here, so a restarted loop that folds the same events stands where the killed one stood.
Does not know: time, engines or journals; the loop turns those into events and performs the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from bedplate.core.event import Draft, Event

RunStatus = Literal["pending", "running", "succeeded", "failed", "stopped", "cancelled"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "stopped", "cancelled"})

FAILURES: Mapping[str, bool] = {  # failure class -> is trying again worth while
    "user_error": False,
    "timeout": False,
    "worker_lost": True,
    "node_lost": True,
}


@dataclass(frozen=True)
class RunState:
    """Where a run stands. `token` is that of the current attempt (0 before the first), `live` whether it is believed to run.

    `ending` is the end that was decided and is not yet recorded.
    """

    run: str
    status: RunStatus = "pending"
    token: int = 0
    live: bool = False
    restarts: int = 0
    max_restarts: int = 3
    checkpoint: Mapping[str, Any] | None = None
    stopping: Literal["no", "stop", "cancel"] = "no"
    ending: Finish | None = None


@dataclass(frozen=True)
class Start:
    """Command: start attempt `token`, from `checkpoint` when there is one."""

    token: int
    checkpoint: Mapping[str, Any] | None


@dataclass(frozen=True)
class Stop:
    """Command: ask attempt `token` to write a checkpoint and end (`stop`), or to end at once (`cancel`)."""

    token: int
    how: Literal["stop", "cancel"]


@dataclass(frozen=True)
class Finish:
    """Command: record the end of the run."""

    status: RunStatus
    failure: str | None = None
    message: str = ""


Command = Start | Stop | Finish


def advance(state: RunState, event: Event | Draft) -> tuple[RunState, list[Command]]:
    """The state after `event`, and what is to be done about it. Events of a token that is not current change nothing."""
    if state.status in ENDED:
        return state, []
    payload = event.payload
    if event.kind == "run.created":
        if state.token > 0:
            return state, []
        created = replace(state, max_restarts=payload.get("max_restarts", 3), checkpoint=payload.get("resume"))
        command = pending_command(created)
        return created, [command] if command is not None else []
    if event.kind == "attempt.started" and payload["token"] == state.token + 1 and not state.live and state.ending is None:
        started = replace(state, status="running", token=payload["token"], live=True)
        return started, [Stop(started.token, state.stopping)] if state.stopping != "no" else []
    if event.kind == "stop.requested":
        return _stop(state, payload.get("how", "stop"))
    if event.kind == "run.finished":
        return replace(state, status=payload["status"], live=False), []
    if payload.get("token") != state.token or not state.live:
        return state, []
    if event.kind == "checkpoint.committed":
        return replace(state, checkpoint=payload), []
    if event.kind == "attempt.ended":
        return _ended(replace(state, live=False), payload)
    return state, []


def pending_command(state: RunState) -> Command | None:
    """The command that a loop which adopts this run must perform first: the one that was decided last, if no event says it was done."""
    if state.status in ENDED:
        return None
    if state.live:
        return Stop(state.token, state.stopping) if state.stopping != "no" else None
    if state.ending is not None:
        return state.ending
    if state.stopping != "no":
        return Finish("cancelled" if state.stopping == "cancel" else "stopped")
    return Start(state.token + 1, state.checkpoint)


def _stop(state: RunState, how: Literal["stop", "cancel"]) -> tuple[RunState, list[Command]]:
    stopping = replace(state, stopping="cancel" if state.stopping == "cancel" else how)  # a cancel is never taken back
    command = pending_command(stopping)
    return stopping, [command] if command is not None else []


def _ended(state: RunState, payload: Mapping[str, Any]) -> tuple[RunState, list[Command]]:
    status, failure, message = payload["status"], payload.get("failure"), payload.get("message", "")
    if status == "succeeded":
        end = Finish("succeeded")
    elif state.stopping != "no":
        end = Finish("cancelled" if state.stopping == "cancel" else "stopped")
    elif FAILURES.get(failure or "worker_lost", False) and state.restarts < state.max_restarts:
        return replace(state, restarts=state.restarts + 1), [Start(state.token + 1, state.checkpoint)]
    else:
        end = Finish("failed", failure, message)
    return replace(state, ending=end), [end]
