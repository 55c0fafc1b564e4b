"""Real runs with something planted in them: real ranks, a real group, the real loop and its timers; what the device computes is slept.

One process imports torch and forks the ranks of every run. `python planted.py` is that process, `Planter` speaks to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bedplate.core.journal import JournalReader
from bedplate.train.doctor.measured import Measured, Profile, Reference, measured
from bedplate.train.mesh import Mesh
from train import samples

ROWS_A_STEP = 8
SPUN_S = 0.001  # the end of a wait is spun: a core that sleeps may wake late by as much, which is noise in every one of many short waits


def spend(seconds: float) -> None:
    """Let time pass, precisely."""
    end_s = time.perf_counter() + seconds
    time.sleep(max(0.0, seconds - SPUN_S))
    while time.perf_counter() < end_s:
        pass


class SlowFeed(samples.ArrayFeed):
    """Its batches come `wait_s` late."""

    wait_s = 0.0

    def batches(self, *arguments: Any, **named: Any) -> Iterator[Any]:
        for batch in super().batches(*arguments, **named):
            time.sleep(self.wait_s)
            yield batch


class SlowState:
    """What takes `stall_s` to copy for a checkpoint."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s

    def state_dict(self) -> dict[str, Any]:
        time.sleep(self._stall_s)
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing in it."""


def rows_of(params: dict[str, Any]) -> int:
    """A step's rows: as many for each micro-batch."""
    micro_batches = params.get("micro_batches", 1)
    return -(-ROWS_A_STEP // micro_batches) * int(micro_batches)


def feed_of(params: dict[str, Any]) -> SlowFeed:
    random = np.random.default_rng(7)
    rows = rows_of(params) * int(params["steps"])
    columns = {"delay": random.normal(0, 1, rows), "distance": random.normal(0, 1, rows)}
    columns |= {"carrier": random.integers(0, 4, rows).astype(np.int32), "arr_delay": random.normal(0, 1, rows)}
    schema = samples.FeedSchema(("delay", "distance"), ("carrier",), "arr_delay")
    feed = SlowFeed({"train": columns, "valid": columns, "test": columns}, schema, {"carrier": samples.WORDS})
    feed.wait_s = params["loader_s"]
    return feed


def trained(
    run: Any,
    steps: int = 100,
    compute_s: float = 0.01,
    loader_s: float = 0.0,
    slow_rank: int = -1,
    slow_s: float = 0.0,
    link_s: float = 0.0,
    stall_s: float = 0.0,
    tiny: int = 0,
    width: int = 8,
) -> None:
    """As a user writes it, but that the device's work is slept, and that each way of being slow can be asked for."""
    import torch

    torch.set_num_threads(1)
    model = run.parallelize(lambda: torch.nn.Sequential(torch.nn.Linear(run.signature.numeric_width, width), torch.nn.Linear(width, 1)))
    if link_s:
        model.register_comm_hook(link_s, throttled)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    small = torch.ones(1)

    def loss_of(model: Any, batch: Any) -> Any:
        spend(compute_s + (slow_s if run.rank == slow_rank else 0.0))
        for _ in range(tiny):
            torch.neg(small)
        return model(batch["numeric"]).square().mean()

    for batch in run.batches("train", epochs=1, batch_size=ROWS_A_STEP, state=[model, optimizer, SlowState(stall_s)]):
        run.backward(loss_of, batch)
        run.update(optimizer)


def trained_in_stages(
    run: Any, steps: int = 100, loader_s: float = 0.0, block_s: float = 0.0, last_s: float = 0.0, micro_batches: int = 0
) -> None:
    """A pipeline of four blocks, each slept; the last stage has `last_s` more to do for each micro-batch. Half of it is forward."""
    import torch

    class Slept(torch.autograd.Function):
        """The identity, after half of `seconds`; backward too."""

        @staticmethod
        def forward(context: Any, tensor: Any, seconds: float) -> Any:
            context.seconds = seconds
            spend(seconds / 2)
            return tensor.clone()

        @staticmethod
        def backward(context: Any, *gradients: Any) -> Any:
            spend(context.seconds / 2)
            return gradients[0], None

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(run.signature.numeric_width, 8)
            self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(4))
            self.last = torch.nn.Linear(8, 1)

        def forward(self, numeric: Any) -> Any:
            return whole(self, numeric, True, True)

        def parallel_plan(self) -> Any:
            from bedplate.train.plan import Plan

            return Plan("blocks", ("first",), ("last",), whole)

    def whole(part: Any, hidden: Any, is_first: bool, is_last: bool) -> Any:
        hidden = part.first(hidden) if is_first else hidden
        for block in part.blocks.values() if isinstance(part.blocks, torch.nn.ModuleDict) else part.blocks:
            hidden = Slept.apply(block(hidden), block_s)
        return part.last(Slept.apply(hidden, last_s)) if is_last else hidden

    torch.set_num_threads(1)
    model = run.parallelize(Net)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    params = {"micro_batches": micro_batches}
    for batch in run.batches("train", epochs=1, batch_size=rows_of(params), state=[model, optimizer]):
        run.backward(lambda model, batch: model(batch["numeric"]).square().mean(), batch)
        run.update(optimizer)


def throttled(link_s, bucket):  # torch refuses a hook whose annotations are not its own types
    """All-reduce of a bucket over a link that takes `link_s` longer."""
    import torch
    import torch.distributed as dist

    work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
    arrived = torch.futures.Future()

    def late() -> None:  # in a thread of its own: no link keeps the thread that computes gradients waiting
        work.wait()
        time.sleep(link_s)
        arrived.set_result(bucket.buffer())

    threading.Thread(target=late, name="link").start()
    return arrived


class Planter:
    """Runs planted runs, one after the other."""

    def __init__(self, folder: Path) -> None:
        """`folder` gets their attempts."""
        self._folder = folder
        self._count = 0
        path = os.pathsep.join([str(Path(__file__).parent.parent), *(each for each in sys.path if each)])
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(self, *, world_size: int = 2, profile: bool = False, checkpoint_every_s: float = 60.0, **params: Any) -> Measured:
        """Run it to its end; what its timers measured."""
        assert self._process.stdin is not None
        self._count += 1
        spec = {"params": {"steps": 100, "loader_s": 0.0, **params}, "checkpoint_every_s": checkpoint_every_s}
        mesh = Mesh(pipeline=world_size, micro_batches=params["micro_batches"]) if "micro_batches" in params else None
        spec |= {"mesh": mesh.to_json()} if mesh else {}
        asked = {"profile": {"steps": 10, "after": 20}} if profile else {}
        attempt = samples.attempt_in(self._folder / str(self._count), world_size=world_size, **spec, **asked)
        self._process.stdin.write(attempt.folder + "\n")
        self._process.stdin.flush()
        samples.wait_until((attempt.path / "exit").exists, 120)
        assert (attempt.path / "exit").read_text() == "0", "\n".join(path.read_text() for path in attempt.path.glob("logs/*"))
        entries = JournalReader(attempt.path).read()
        rows = [
            [entry.body for entry in entries if entry.kind == "timing" and entry.writer == f"rank-{rank}"] for rank in range(world_size)
        ]
        body = next((entry.body for entry in entries if entry.kind == "profile"), None)
        names = ("launches", "launch_s", "kernel_s", "memory_s", "chain", "overlaps", "cost_s", "steps", "last")
        found = measured(
            rows,
            mesh,
            checkpoints=sum(entry.kind == "checkpoint" for entry in entries),
            profile=Profile(**{name: body[name] for name in names}) if body else None,
            reference=Reference(),
        )
        assert found is not None
        return found

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.communicate(timeout=30)


def _host(folder: Path) -> None:
    from bedplate.core.atomic import write_bytes
    from bedplate.core.attempt import read_attempt
    from bedplate.train.context import execute
    from bedplate.train.ranks import run_ranks

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    function = trained_in_stages if "mesh" in read_attempt(folder).spec else trained
    code = run_ranks(read_attempt(folder), lambda attempt, seat: execute(attempt, feed_of(attempt.spec["params"]), seat, function))
    write_bytes(folder / "exit", str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    import bedplate.train.context
    import bedplate.train.ranks  # noqa: F401 - so that a fork need not

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            _host(Path(line.strip()))
