"""The ranks of one attempt as a group: the few collectives that the run context needs, on CPU tensors.

The variables MASTER_ADDR and MASTER_PORT of torchrun's environment are read here. Does not know: models, or why ranks talk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # torch re-exports them untyped

from bedplate.core.attempt import Attempt


class Group:
    """A group of ranks. Every rank calls the same methods in the same order; a group of one needs no network."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size

    @staticmethod
    def join(attempt: Attempt, rank: int, device: torch.device) -> Group:
        """Meet the other ranks at the store that the host holds. gloo for CPU tensors, nccl for those of an accelerator.

        Raises torch.distributed.DistError when they do not come.
        """
        if attempt.world_size > 1:
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(host, port, attempt.world_size, is_master=False)
            prefixed = PrefixStore(f"attempt-{attempt.token}", store)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=prefixed, rank=rank, world_size=attempt.world_size)
        return Group(rank, attempt.world_size)

    def agree(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks."""
        if self.world_size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        largest: list[float] = tensor.tolist()
        return largest

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of every rank, by rank, on rank 0; an empty list elsewhere."""
        if self.world_size == 1:
            return [data]
        room = int(self.agree([len(data)])[0])
        mine = _tensor(len(data).to_bytes(8, "big") + data.ljust(room, b"\0"))
        parts = [torch.empty_like(mine) for _ in range(self.world_size)] if self.rank == 0 else None
        dist.gather(mine, parts, dst=0)
        return [_content(part) for part in parts or ()]

    def broadcast(self, data: bytes | None) -> bytes:
        """The bytes that rank 0 gives, on every rank; what others give is not looked at."""
        if self.world_size == 1:
            return data or b""
        own = (data or b"") if self.rank == 0 else b""
        room = int(self.agree([len(own)])[0])
        tensor = _tensor(own.ljust(room, b"\0"))
        dist.broadcast(tensor, src=0)
        return _bytes(tensor)

    def part(self) -> None:
        """Wait for every rank, so that none ends while another still needs it. For after a success: after a failure they may not come.

        The process group is left for the end of the process to take. Where a wrapped model holds its last reference, destroying it waits
        for gloo's threads with the interpreter's lock held, which they may need: about one run in ten never ended.
        """
        if self.world_size > 1:
            dist.barrier()


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _bytes(tensor: torch.Tensor) -> bytes:
    array: Any = tensor.numpy()
    return bytes(array.tobytes())


def _content(tensor: torch.Tensor) -> bytes:
    data = _bytes(tensor)
    return data[8 : 8 + int.from_bytes(data[:8], "big")]
