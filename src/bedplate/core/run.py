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

Act = Literal["stop", "restart", "requeue", "record"]


@dataclass(frozen=True)
class Policy:
    """What is done about a class of failure: `act`, and in words for people."""

    act: Act
    what: str


POLICIES: Mapping[str, Policy] = {
    "user_error": Policy("stop", "the run ends with the traceback of the first rank that failed; trying again would fail again"),
    "out_of_memory": Policy("stop", "the run ends, or goes on with half the micro-batch (`on_out_of_memory: halve_micro_batch`)"),
    "numeric": Policy("stop", "the run ends, or goes back n checkpoints and skips the batch (`on_numeric: rollback`)"),
    "timeout": Policy("stop", "the run ends: it took longer than `max_time`"),
    "crash_loop": Policy("stop", "the run ends: a rank died in the same way twice at one step, with no step finished in between"),
    "worker_lost": Policy("restart", "the rank is replaced in place, else a new attempt goes on from the newest checkpoint"),
    "node_lost": Policy("restart", "a new attempt goes on from the newest checkpoint, on another machine where there is one"),
    "hang": Policy("restart", "stacks and collectives of every rank are written down, then the ranks that did not arrive are replaced"),
    "preempted": Policy("requeue", "a checkpoint is written at once, and a new attempt goes on from it; that counts as no restart"),
    "straggler": Policy("record", "it is written down; nothing is killed"),
    "storage": Policy("record", "the upload is tried again in the background; nothing is killed"),
}
FAILURES: Mapping[str, bool] = {
    name: policy.act in ("restart", "requeue") for name, policy in POLICIES.items()
}  # is trying again worth while

CRASHES = frozenset(
    {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGSYS", "SIGTRAP"}
)  # a program's own doing, not somebody else's kill


@dataclass(frozen=True)
class RunState:
    """Where a run stands. `token` is that of the current attempt (0 before the first), `live` whether it is believed to run.

    `ending` is the end that was decided and is not yet recorded. `began_at` is the step of the checkpoint that the current attempt began
    with, `crash` how and at which step a rank last died of its own doing, `excluded` names the machines that are not to be used again.
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
    began_at: int = 0
    crash: tuple[str, int] | None = None
    excluded: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The step of the newest committed checkpoint; 0 without one."""
        return int((self.checkpoint or {}).get("step", 0))


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
        started = replace(state, status="running", token=payload["token"], live=True, began_at=state.step)
        return started, [Stop(started.token, state.stopping)] if state.stopping != "no" else []
    if event.kind == "stop.requested":
        return _stop(state, payload.get("how", "stop"))
    if event.kind == "run.finished":
        return replace(state, status=payload["status"], live=False), []
    if payload.get("token") != state.token or not state.live:
        return state, []
    if event.kind == "checkpoint.committed":
        return replace(state, checkpoint=payload), []
    if event.kind == "attempt.restarted":
        counted = payload.get("failure") not in ("preempted", "resize")
        return replace(state, restarts=state.restarts + counted, crash=crash_of(payload) or state.crash), []
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


def crash_of(payload: Mapping[str, Any]) -> tuple[str, int] | None:
    """The signal and the step of a death that was the program's own doing; None where it was not, or where the step is not known."""
    sign, step = payload.get("signal"), payload.get("step")
    return (str(sign), int(step)) if sign in CRASHES and step is not None else None


def _ended(state: RunState, payload: Mapping[str, Any]) -> tuple[RunState, list[Command]]:
    status, failure, message = payload["status"], payload.get("failure"), payload.get("message", "")
    crash = crash_of(payload)
    if status == "succeeded":
        end = Finish("succeeded")
    elif state.stopping != "no":
        end = Finish("cancelled" if state.stopping == "cancel" else "stopped")
    elif crash is not None and crash == state.crash:
        end = Finish("failed", "crash_loop", f"{message}: the second {crash[0]} at step {crash[1]} with no step finished in between")
    elif _preempted(status, failure) and state.step > state.began_at:
        return state, [Start(state.token + 1, state.checkpoint)]
    elif FAILURES.get(failure or "worker_lost", False) and state.restarts < state.max_restarts:
        lost = (*state.excluded, payload["node"]) if failure == "node_lost" and payload.get("node") else state.excluded
        again = replace(state, restarts=state.restarts + 1, crash=crash or state.crash, excluded=tuple(dict.fromkeys(lost)))
        return again, [Start(state.token + 1, state.checkpoint)]
    else:
        end = Finish("failed", failure, message)
    return replace(state, ending=end), [end]


def _preempted(status: str, failure: str | None) -> bool:
    """Whether an attempt was asked to end by somebody who is not its owner."""
    return status == "stopped" or failure == "preempted"
