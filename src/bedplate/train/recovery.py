"""Recovery on one rank: the lives of its function, one for each generation of the process group.

When a peer is lost, what still works here is kept (process, imports, feed, the state of the last whole step), the broken process group
is left, and the host is asked where to go on. Does not know: who died, or what the host decides and why (`generations`).
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bedplate.core.atomic import write_bytes
from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.train.distributed import leave
from bedplate.train.failures import NumericError, causes, describe, described_class
from bedplate.train.memory import Memory
from bedplate.train.notice import Regroup, StopNotice
from bedplate.train.seat import Assignment, Seat

Life = Callable[[Attempt, Memory, StopNotice], Any]


class Recovery:
    """The generations of one rank's process."""

    def __init__(self, attempt: Attempt, seat: Seat, device: torch.device) -> None:
        """A seat with an assignment is that of a replacement, which begins in the middle of things."""
        self._attempt = assigned(attempt, seat.assignment) if seat.assignment is not None else attempt
        self._seat = seat
        self._device = device
        self._journals: dict[int, JournalWriter] = {}

    def journal(self) -> JournalWriter:
        """The journal of the rank that this process is now; one writer each, so that its numbers go on."""
        if self._seat.rank not in self._journals:
            self._journals[self._seat.rank] = JournalWriter(self._attempt.path, f"rank-{self._seat.rank}")
        return self._journals[self._seat.rank]

    def lives(self, life: Life, notice: StopNotice) -> Any:
        """Call `life` until one generation ends well. Raises what it raises when that is no loss of another rank, or the last one."""
        memory = Memory(self._seat, keeps=self._device.type == "cpu" and whole_model_on_each_rank(self._attempt))
        self._seat.listen({"record": self._record})
        memory.begin()
        try:
            while True:
                try:
                    return life(self._attempt, memory, notice)
                except (Exception, Regroup) as error:
                    if not self._asks(error):
                        raise
                    broken = error
                self._again(broken, memory)
        finally:
            for journal in self._journals.values():
                journal.close()

    def _asks(self, error: BaseException) -> bool:
        """Whether the host may know how to go on after this."""
        spec = self._attempt.spec
        if self._seat.line is None or spec.get("recovery") == "replicas":
            return False
        failure = described_class(error)
        return (
            isinstance(error, Regroup)
            or failure == "worker_lost"
            or (failure == "numeric" and spec.get("on_numeric") == "rollback")
            or (failure == "out_of_memory" and spec.get("on_out_of_memory") == "halve_micro_batch")
        )

    def _again(self, error: BaseException, memory: Memory) -> None:
        """Leave the generation that `error` ended and take a seat in the next. Raises `error` when there is none."""
        position = memory.hold()
        told = describe(error, self._seat.rank, Path(self._attempt.code)).to_json()
        where = error.where if isinstance(error, NumericError) else None
        failure = "resize" if isinstance(error, Regroup) else told["failure"]
        self._seat.tell(
            "lost",
            generation=self._seat.generation,
            failure=failure,
            message=told["message"],
            position=None if position is None else asdict(position),
            where=where,
        )
        for each in causes(error):
            traceback.clear_frames(each.__traceback__)  # they hold models, whose reducers hold the process group
        leave(memory.sockets)
        assignment = self._seat.next_assignment()
        if assignment is None:
            raise error
        self._attempt = assigned(self._attempt, assignment)
        memory.begin()

    def _record(self, message: Mapping[str, Any]) -> None:
        """Write down the collectives of this rank, as torch's flight recorder has them; the rank itself may be stuck in one."""
        recorder: Any = torch._C._distributed_c10d
        dump = getattr(recorder, "_dump_nccl_trace_json", None) if self._device.type == "cuda" else None
        found = json.loads((dump or recorder._dump_fr_trace_json)())
        entries = [
            {name: entry.get(name) for name in ("collective_seq_id", "profiling_name", "process_group", "state", "retired", "input_sizes")}
            for entry in found.get("entries", [])
        ]
        write_bytes(Path(message["path"]), json.dumps({"rank": self._seat.rank, "collectives": entries[-32:]}, indent=1).encode())


def assigned(attempt: Attempt, assignment: Assignment) -> Attempt:
    """The attempt as a rank of a later generation sees it."""
    spec = {**attempt.spec, **assignment.spec}
    if spec.get("mesh") and whole_model_on_each_rank(attempt):
        spec["mesh"] = {**spec["mesh"], "data": assignment.world_size}
    return replace(attempt, world_size=assignment.world_size, checkpoint=assignment.checkpoint, spec=spec)


def whole_model_on_each_rank(attempt: Attempt) -> bool:
    """Whether the mesh is data parallel only, so that any rank's state is everybody's."""
    mesh = attempt.spec.get("mesh") or {}
    return all(size in (None, 1) for name, size in mesh.items() if name in ("shard", "tensor", "pipeline", "context"))
