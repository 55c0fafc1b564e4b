"""torchft: replicas that agree before every step who takes part in it, so that a lost one costs the others no more than one step.

Each rank is a replica of its own. The host holds the lighthouse; before a step the live replicas form a quorum, one that is behind takes
the state of another, gradients are averaged over those present, and the step counts when nothing failed meanwhile. torchft's own way to
hand state over pickles it: here it is a tree in JSON and raw tensors, to those alone who know the attempt's token.
https://github.com/pytorch/torchft, version 0.2. Its manager and gloo speak without encryption: for a network that is trusted.
Does not know: batches, checkpoints, or who replaces a rank that died.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from threading import Condition, Event
from typing import Any

import torch
from torch.distributed import ReduceOp, TCPStore  # type: ignore[attr-defined] # torch re-exports them untyped
from torchft._torchft import LighthouseServer
from torchft.checkpointing.transport import CheckpointTransport
from torchft.manager import Manager
from torchft.process_group import ProcessGroupGloo, ProcessGroupNCCL

from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.exchange import Address, Connection, Receiver, ask
from bedplate.train.replicas import MEETING_FILE, Quorum
from bedplate.train.tree import Tensors, flatten, unflatten

LOOPBACK = "127.0.0.1"
HEARTBEAT_LIMIT_MS = 1000  # a replica that is silent for so long is left out
JOIN_LIMIT_MS = 60_000  # how long others are waited for that are alive: at the beginning only, later none is waited for
TICK_MS = 20
ASKED_LIMIT_S = 30.0  # the one that is behind may ask before the other has copied its state
STEP_LIMIT = timedelta(seconds=60)
QUORUM_LIMIT = timedelta(minutes=30)  # a replica may compile, or read its part of a checkpoint

States = list[Any]


def hold_lighthouse(folder: Path) -> None:
    """Be where replicas find each other, until the process is ended; address and token are written into an attempt's `folder`.

    Raises OSError when that cannot be written.
    """
    server = LighthouseServer(
        bind=f"{LOOPBACK}:0",
        min_replicas=1,
        join_timeout_ms=JOIN_LIMIT_MS,
        quorum_tick_ms=TICK_MS,
        heartbeat_timeout_ms=HEARTBEAT_LIMIT_MS,
    )
    port = server.address().rpartition(":")[2]
    meeting = {"lighthouse": f"http://{LOOPBACK}:{port}", "token": secrets.token_hex(32)}
    beside = folder / f".{MEETING_FILE}.tmp"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(descriptor, json.dumps(meeting).encode())
    os.close(descriptor)
    beside.replace(folder / MEETING_FILE)
    while True:
        signal.pause()


class TorchftReplicas:
    """One replica. `begin`, `reduce` and `commit` are called once a step, in that order."""

    def __init__(self, folder: Path, rank: int, device: torch.device) -> None:
        """Meets nobody yet; `folder` is the attempt's. Raises OSError where the host holds no lighthouse."""
        self._meeting: Mapping[str, str] = json.loads((folder / MEETING_FILE).read_text())
        self._rank = rank
        self._device = device
        self._manager: Any = None
        self._given = 0

    def start(self, step: int, give: Callable[[], States], take: Callable[[States], None]) -> None:
        """Be ready for the step after `step`. `give` is called when another needs this one's state, `take` when this one is behind."""
        self.close()  # an earlier loop's
        store = TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)
        kind = ProcessGroupNCCL if self._device.type == "cuda" else ProcessGroupGloo
        self._manager = Manager(
            pg=kind(timeout=STEP_LIMIT),
            load_state_dict=take,
            state_dict=give,
            min_replica_size=1,
            use_async_quorum=False,  # so that a replica has the state before it computes with it
            timeout=STEP_LIMIT,
            quorum_timeout=QUORUM_LIMIT,
            rank=0,
            world_size=1,
            store_addr=LOOPBACK,
            store_port=store.port,
            lighthouse_addr=self._meeting["lighthouse"],
            replica_id=f"replica_{self._rank}",
            hostname=LOOPBACK,
            checkpoint_transport=_Transport(bytes.fromhex(self._meeting["token"])),
            init_sync=False,  # all build the same model from the same seed, or read the same checkpoint
        )
        self._store = store
        self._manager.load_state_dict({"step": step, "batches_committed": 0})

    def begin(self) -> Quorum:
        """Agree on who takes part in the next step, and be where the furthest of them is. Raises RuntimeError when that cannot be."""
        self._manager.start_quorum()
        return Quorum(self._manager.current_step(), self._manager.num_participants(), self._manager.participating_rank() == 0)

    def reduce(self, gradients: Sequence[torch.Tensor]) -> None:
        """Put the mean over all that take part into `gradients`; when one is lost meanwhile, what is in there is of no use."""
        kinds: dict[torch.dtype, list[torch.Tensor]] = {}
        for each in gradients:
            kinds.setdefault(each.dtype, []).append(each)
        for tensors in kinds.values():
            flat = torch.cat([each.reshape(-1) for each in tensors])
            self._manager.allreduce(flat, reduce_op=ReduceOp.AVG).wait()
            parts = torch.split(flat, [each.numel() for each in tensors])
            torch._foreach_copy_(tensors, [part.view_as(each) for part, each in zip(parts, tensors, strict=True)])

    def commit(self) -> bool:
        """Whether the step counts: all that take part came through it."""
        return bool(self._manager.should_commit())

    def close(self) -> None:
        """Leave the others."""
        if self._manager is not None:
            self._manager.shutdown(wait=False)
            self._manager = None


class _Transport(CheckpointTransport[Mapping[str, Any]]):  # type: ignore[misc] # torchft ships no types
    """Hands the state of a step to replicas that are behind: copied when it is asked for, sent while this replica goes on."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._changed = Condition()
        self._waiting = 0
        self._state: tuple[int, bytes, dict[str, torch.Tensor]] | None = None
        self._never = Event()
        self._receiver = Receiver(LOOPBACK, token, self._answer)

    def metadata(self) -> str:
        return json.dumps(asdict(self._receiver.address))

    def send_checkpoint(self, dst_ranks: list[int], step: int, state_dict: Mapping[str, Any], timeout: timedelta) -> None:  # noqa: ARG002 - torchft's form
        tensors: Tensors = {}
        tree = flatten(state_dict, tensors)
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        shapes = {name: [str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in copies.items()}
        with self._changed:
            self._changed.notify_all()
            self._state, self._waiting = (step, json.dumps({"tree": tree, "shapes": shapes}).encode(), copies), len(dst_ranks)

    def recv_checkpoint(self, src_rank: int, metadata: str, step: int, timeout: timedelta) -> Mapping[str, Any]:  # noqa: ARG002 - torchft's form
        address = Address(**json.loads(metadata))
        limit_s = timeout.total_seconds()
        told = json.loads(ask(address, self._token, {"do": "tree", "step": step}, given_up=self._never, limit_s=limit_s))
        tensors = {}
        for name, (dtype, shape) in told["shapes"].items():
            data = ask(address, self._token, {"do": "tensor", "step": step, "name": name}, given_up=self._never, limit_s=limit_s)
            tensors[name] = (
                torch.frombuffer(data, dtype=getattr(torch, dtype)).reshape(shape)
                if data
                else torch.empty(shape, dtype=getattr(torch, dtype))
            )
        ask(address, self._token, {"do": "thanks", "step": step}, given_up=self._never, limit_s=limit_s)
        found: Mapping[str, Any] = unflatten(told["tree"], tensors)
        return found

    def shutdown(self, wait: bool = True) -> None:  # noqa: ARG002 - torchft's form
        self._receiver.close()

    def _answer(self, header: dict[str, Any], connection: Connection) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._state is not None and self._state[0] == header["step"], ASKED_LIMIT_S):
                raise CheckpointError("this replica does not give the state of that step", value=header["step"])
            state = self._state
            assert state is not None
            if header["do"] == "thanks":
                self._waiting -= 1
                if self._waiting <= 0:
                    self._state = None
        if header["do"] == "tensor":
            array: Any = state[2][header["name"]].reshape(-1).view(torch.uint8).numpy()
            connection.send({"done": True}, memoryview(array))
        else:
            connection.send({"done": True}, state[1] if header["do"] == "tree" else b"")
