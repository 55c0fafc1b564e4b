"""The ranks of one attempt as a group: the few collectives that the run context needs, on CPU tensors.

The variables MASTER_ADDR and MASTER_PORT of torchrun's environment are read here. Does not know: models, or why ranks talk.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # torch re-exports them untyped

from bedplate.core.attempt import Attempt

SHARE_BYTES = 32 << 20  # of tensors that are sent as one
LOOPBACK = "127.0.0.1"


class Group:
    """A group of ranks. Every rank calls the same methods in the same order; a group of one needs no network.

    `address` is this machine's, as the others reach it.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self.batch_rank, self.batch_ranks = rank, world_size
        self.sockets: Mapping[int, str] = {}
        self.address = LOOPBACK

    def deal(self, batch_rank: int, batch_ranks: int) -> None:
        """Say which share of a batch is this rank's: ranks that hold parts of one model have the same samples."""
        self.batch_rank, self.batch_ranks = batch_rank, batch_ranks

    @staticmethod
    def join(attempt: Attempt, rank: int, device: torch.device, generation: int = 0) -> Group:
        """Meet the other ranks at the store that the host holds. gloo for CPU tensors, nccl for those of an accelerator.

        Each generation meets under keys of its own. Raises torch.distributed.DistError when they do not come.
        """
        if attempt.world_size > 1:
            store = host_store(attempt.world_size)
            prefixed = PrefixStore(f"attempt-{attempt.token}/{generation}", store)
            before = open_sockets()
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=prefixed, rank=rank, world_size=attempt.world_size)
            group = Group(rank, attempt.world_size)
            group.address = _own_address(store.host, store.port)
            group.sockets = {number: name for number, name in open_sockets().items() if before.get(number) != name}
            return group
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

    def broadcast(self, data: bytes | None, source: int = 0) -> bytes:
        """The bytes that rank `source` gives, on every rank; what others give is not looked at."""
        if self.world_size == 1:
            return data or b""
        own = (data or b"") if self.rank == source else b""
        room = int(self.agree([len(own)])[0])
        tensor = _tensor(own.ljust(room, b"\0"))
        dist.broadcast(tensor, src=source)
        return _bytes(tensor)

    def share(self, tensors: list[torch.Tensor], source: int) -> None:
        """Fill `tensors`, on the CPU and of the same shapes and types on every rank, with those of rank `source`."""
        if self.world_size > 1 and tensors:
            group = dist.group.WORLD
            assert group is not None
            dist._broadcast_coalesced(group, tensors, SHARE_BYTES, source)  # type: ignore[attr-defined] # as DistributedDataParallel does

    def part(self) -> None:
        """Wait for every rank, so that none ends while another still needs it. For after a success: after a failure they may not come.

        The process group is left for the end of the process to take. Where a wrapped model holds its last reference, destroying it waits
        for gloo's threads with the interpreter's lock held, which they may need: about one run in ten never ended.
        """
        if self.world_size > 1:
            dist.barrier()


def host_store(world_size: int) -> TCPStore:
    """The store that the host of the ranks holds. Raises torch.distributed.DistError when it is not there."""
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world_size, is_master=False)


def leave(sockets: Mapping[int, str]) -> None:
    """Leave a group that lost a rank. `sockets` are the group's, as `Group.join` found them.

    Its connections are shut down first: whoever waits for this rank, here or elsewhere, fails at once. A wrapped model keeps its group
    alive in C++ even when nothing in Python holds it any more (torch 2.13), so destroying the group alone would not close them.
    """
    present = open_sockets()
    for descriptor, name in sockets.items():
        if present.get(descriptor) == name:  # else the number is somebody else's by now
            with suppress(OSError), socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as connection:  # gloo closes them too
                if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):  # gloo ends the process when its listener fails
                    connection.shutdown(socket.SHUT_RDWR)
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


def open_sockets() -> dict[int, str]:
    """The sockets of this process: descriptor -> what the kernel calls it. Empty where there is no /proc."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with suppress(OSError):  # the descriptor of the listing itself
            name = str(entry.readlink())
            if name.startswith("socket:"):
                found[int(entry.name)] = name
    return found


def _own_address(host: str, port: int) -> str:
    """The address by which this machine reaches, and so is reached from, the one at `host`; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _bytes(tensor: torch.Tensor) -> bytes:
    array: Any = tensor.numpy()
    return bytes(array.tobytes())


def _content(tensor: torch.Tensor) -> bytes:
    data = _bytes(tensor)
    return data[8 : 8 + int.from_bytes(data[:8], "big")]
