"""Training by replicas that may come and go between any two steps: `recovery: replicas`.

There is no common process group: before every step the replicas that live agree on who takes part (`Replicas`, an engine). Rank r takes
share r of each batch; what the share of a lost rank would have been is not trained on until it is back. The place in the data follows
from the number of steps that counted, so one that comes back is at once where the others are.
Does not know: how replicas agree, or who replaces one.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined] # torch re-exports them untyped

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError, Unavailable
from bedplate.core.loading import Entry, load
from bedplate.core.protocols import Feed
from bedplate.train.checkpoints.capture import bare
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group, host_store
from bedplate.train.failures import NumericError
from bedplate.train.forking import let_go
from bedplate.train.keeper import Keeper
from bedplate.train.loop import Pass
from bedplate.train.losses import LossWatch
from bedplate.train.memory import Memory
from bedplate.train.metrics import MetricBuffer
from bedplate.train.notice import StopNotice, Stopped
from bedplate.train.parallel import reseed
from bedplate.train.preprocess import Columns
from bedplate.train.timers import Timers
from bedplate.train.tree import generators, restore_generators

ENGINES: Mapping[str, Entry] = {
    "torchft": Entry("bedplate.train.engines.torchft:TorchftReplicas", "per-step fault tolerance by torchft", "torchft"),
    "lighthouse": Entry("bedplate.train.engines.torchft:hold_lighthouse", "where replicas meet", "torchft"),
}
DONE_FILE = "replicas-done"
HERE = "here"
MEETING_FILE = "replicas.json"
LIGHTHOUSE_LIMIT_S = 60.0
WORD_LIMIT = timedelta(minutes=30)  # how long a rank waits for what rank 0 has to say

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Quorum:
    """Who takes part in a step: `step` counts those that are finished, `count` the replicas, `first` whether this is the first of them."""

    step: int
    count: int
    first: bool


class Replicas(Protocol):
    """One replica's way to the others."""

    def start(self, step: int, give: Callable[[], list[Any]], take: Callable[[list[Any]], None]) -> None:
        """Be ready for the step after `step`; `give` gives this one's state to another, `take` takes that of another."""

    def begin(self) -> Quorum:
        """Agree on the next step; this replica has the state of the furthest then."""

    def reduce(self, gradients: Sequence[torch.Tensor]) -> None:
        """Put the mean over all that take part into `gradients`."""

    def commit(self) -> bool:
        """Whether the step counts."""

    def close(self) -> None:
        """Leave the others."""


class ReplicaGroup(Group):
    """What a group of ranks is to the run context when ranks do not depend on one another: each agrees with itself.

    Only what rank 0 says once (fitted preprocessing, the saved model) is waited for, at the store that the host holds.
    """

    def __init__(self, attempt: Attempt, rank: int, replicas: Replicas) -> None:
        """Raises OSError or torch's own error where there is no store."""
        super().__init__(rank, attempt.world_size)
        self.replicas = replicas
        self._done = attempt.path / DONE_FILE
        self._said = 0
        self._store: Any = None
        if attempt.world_size > 1:
            self._store = PrefixStore(f"replicas-{attempt.token}", host_store(attempt.world_size))
            self._store.set_timeout(WORD_LIMIT)

    def agree(self, values: Sequence[float]) -> list[float]:
        """What this rank says."""
        return list(values)

    def gather(self, data: bytes) -> list[bytes]:
        """What this rank says, on rank 0; the others' is not heard."""
        return [data] if self.rank == 0 else []

    def broadcast(self, data: bytes | None, source: int = 0) -> bytes:
        """What rank 0 says, also to one that asks later. Every rank asks in the same order, from the start of its function."""
        self._said += 1
        if self._store is None:
            return data or b""
        if self.rank == source:
            self._store.set(f"word-{self._said}", data or b"")
            return data or b""
        return bytes(self._store.get(f"word-{self._said}"))

    def assemble(self) -> None:
        """Wait until as many ranks came here as there are, so that none begins alone; one that comes back finds that long done."""
        if self._store is not None:
            self._store.add(HERE, 1)
            while self._store.add(HERE, 0) < self.world_size:
                time.sleep(0.01)

    def share(self, tensors: list[torch.Tensor], source: int) -> None:
        """Nothing: a replica takes state from the engine."""

    def part(self) -> None:
        """This rank has done all it had to do. Others may still be at it."""
        self.replicas.close()
        with suppress(FileExistsError):
            os.close(os.open(self._done, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))

    @property
    def over(self) -> bool:
        """Whether another has finished the whole run."""
        return self._done.exists()


class Lighthouse:
    """Where the replicas of an attempt meet: a process of its own beside the host, which forks ranks and so must not have its threads."""

    def __init__(self, attempt: Attempt) -> None:
        """Start it. Raises Unavailable without the extra `torchft`, or when it does not come up."""
        if importlib.util.find_spec("torchft") is None:
            raise Unavailable("`recovery: replicas` needs the package 'torchft'", fix="pip install 'bedplate[torchft]'")
        met = attempt.path / MEETING_FILE
        met.unlink(missing_ok=True)
        host = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _be_lighthouse(attempt, host)
        deadline_s = time.monotonic() + LIGHTHOUSE_LIMIT_S
        while not met.exists():
            if os.waitpid(self._pid, os.WNOHANG)[0] or time.monotonic() > deadline_s:
                raise Unavailable("torchft's lighthouse did not come up", fix=f"see {attempt.log(0).with_name('lighthouse.log')}")
            time.sleep(0.01)

    def close(self) -> None:
        """End it."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _be_lighthouse(attempt: Attempt, host: int) -> None:
    """What the forked process does; never returns."""
    try:
        let_go(attempt.log(0).with_name("lighthouse.log"), host)
        load(ENGINES, "lighthouse", "engine")(attempt.path)
    except BaseException:  # noqa: BLE001 - nothing may get out of the child into the host's own frames
        traceback.print_exc()
    finally:
        os._exit(1)


def replica_group(attempt: Attempt, rank: int, device: torch.device) -> ReplicaGroup:
    """The group of a rank under `recovery: replicas`.

    Raises Unavailable without the extra `torchft`, JobError for a mesh that shares a model.
    """
    mesh = attempt.spec.get("mesh") or {}
    if any(size not in (None, 1) for name, size in mesh.items() if name in ("shard", "tensor", "pipeline", "context")):
        raise JobError("replicas hold the whole model each", value=dict(mesh), fix="leave the mesh out, or take `recovery: in_place`")
    make = load(ENGINES, "torchft", "engine")
    return ReplicaGroup(attempt, rank, make(attempt.path, rank, device))


@dataclass(frozen=True)
class _Before:
    """What user code may change in a step that does not count, as it was: schedules and such, settings of optimizers, generators."""

    states: list[Any]
    settings: list[dict[str, Any]]
    drawn: Mapping[str, Any]


@dataclass
class ReplicaLoop:
    """One stateful loop of one replica. The run context calls `reduce` and `commits` once a step, at its update."""

    over: Pass
    state: Sequence[Any]
    feed: Feed
    encode: Callable[[Columns], Batch]
    progress: Callable[[int, int, str], None]
    tell: Callable[[str], None]
    group: ReplicaGroup
    notice: StopNotice
    metrics: MetricBuffer
    keeper: Keeper
    memory: Memory
    watch: LossWatch
    timers: Timers
    write_timings: Callable[[bool], None]
    stepped: Callable[[], None]
    device: torch.device
    _committed: bool | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def reduce(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the mean over the replicas into the gradients of what `optimizer` changes."""
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        self.group.replicas.reduce([each.grad for each in parameters if each.grad is not None])

    def commits(self) -> bool:
        """Whether the step counts. Raises JobError when it is asked twice in a step."""
        if self._committed is not None:
            raise JobError("two updates in one step", fix="with `recovery: replicas` each step has one optimizer and one run.update")
        self._committed = self.group.replicas.commit()
        return self._committed

    def batches(self) -> Iterator[Batch]:
        """The batches of this replica. Raises JobError for a batch size that cannot be dealt out, Stopped on notice."""
        loop, self.keeper.loops = self.keeper.loops, self.keeper.loops + 1
        each_epoch = self._steps_per_epoch()
        facts = self.over.facts()
        position = self.keeper.restore(loop, self.state, facts)
        if position is None:
            return
        first = position.step - position.epoch * each_epoch - position.sample // self.over.batch_size
        self.group.replicas.start(position.step, self._give, self._take)
        self.group.assemble()
        reseed(self.over.seed + position.step, self.group.rank)
        self.timers.begin()
        dealt = _Dealt(self, each_epoch)
        with self.notice.deferred():
            while self.keeper.steps < first + self.over.epochs * each_epoch:
                quorum = self._begin()
                self.keeper.steps = quorum.step
                if quorum.step >= first + self.over.epochs * each_epoch:
                    break
                before = self._small()
                epoch, within = divmod(quorum.step - first, each_epoch)
                with self.timers.span("input"):
                    batch = dealt.at(epoch, within)
                self.keeper.steps, self._committed = quorum.step + 1, None
                self.memory.move("user")
                yield batch
                if self._committed is None:
                    raise JobError("a step without `run.update`", fix="with `recovery: replicas` each step ends with run.update(optimizer)")
                if not self._committed:
                    self._undo(quorum.step, before)
                    continue
                self._finish(Position(loop, epoch, (within + 1) * self.over.batch_size, quorum.step + 1), facts, quorum.first)
                done, total = (epoch * each_epoch + within + 1) * self.over.batch_size, self.over.epochs * each_epoch * self.over.batch_size
                self.progress(done, total, f"epoch {epoch + 1} of {self.over.epochs}")
        self._flush(first=True)
        self.memory.move("outside")
        self.write_timings(True)

    def _begin(self) -> Quorum:
        self.memory.move("meeting")
        with self.timers.span("communication"):
            quorum = self.group.replicas.begin()
        if quorum.count == 1 and self.group.world_size > 1 and self.group.over:
            raise SystemExit(0)  # the others have finished the run while this one came back
        if quorum.count != self._count:
            self._count = quorum.count
            if quorum.first:
                self.tell(f"{quorum.count} of {self.group.world_size} replicas from step {quorum.step + 1} on")
        return quorum

    def _finish(self, position: Position, facts: Mapping[str, Any], first: bool) -> None:
        self.memory.move("input", position.step)
        self.timers.end_step(position.step)
        self.stepped()
        for step, loss in self.metrics.losses():
            if self.watch.is_bad(loss):
                told = f"the loss of step {step} is not finite, or far above those before"
                raise NumericError(
                    told, fix="lower the learning rate, or clip gradients", where=(position.loop, position.epoch, position.sample)
                )
        if self.metrics.due():
            self._flush(first=first)
            self.write_timings(False)
        if self.group.rank == 0 and (self.keeper.due() or self.notice.given):
            with self.timers.span("checkpoint"):
                self.keeper.save(position, self.state, facts, self.metrics.last)
        if self.notice.given:
            self.keeper.settle()
            raise Stopped

    def _flush(self, *, first: bool) -> None:
        """One of the replicas writes what it has seen: their losses differ, as their shares of a batch do."""
        if first and self.group.rank == 0:
            self.metrics.flush()
        else:
            self.metrics.pending.clear()

    def _undo(self, step: int, before: _Before) -> None:
        """A step that did not count: small states and generators are as before it, and it is done again."""
        self.keeper.steps = step
        self.metrics.pending[:] = [each for each in self.metrics.pending if each[0] <= step]
        self.metrics.losses()
        for each, values in zip(self._others(), before.states, strict=True):
            each.load_state_dict(values)
        for group, settings in zip(self._settings(), before.settings, strict=True):
            group.update(settings)
        restore_generators(before.drawn, self.device)

    def _small(self) -> _Before:
        settings = [copy.deepcopy({name: value for name, value in group.items() if name != "params"}) for group in self._settings()]
        return _Before([copy.deepcopy(each.state_dict()) for each in self._others()], settings, generators(self.device))

    def _settings(self) -> list[dict[str, Any]]:
        """The groups of the optimizers, whose learning rates a schedule changes."""
        return [group for each in self.state if isinstance(each, torch.optim.Optimizer) for group in each.param_groups]

    def _others(self) -> list[Any]:
        return [each for each in self.state if not isinstance(each, (torch.nn.Module, torch.optim.Optimizer))]

    def _give(self) -> list[Any]:
        return [bare(each).state_dict() for each in self.state]

    def _take(self, states: list[Any]) -> None:
        for each, values in zip(self.state, states, strict=True):
            bare(each).load_state_dict(values)

    def _steps_per_epoch(self) -> int:
        rows, size = self.feed.rows(self.over.split), self.over.batch_size
        if size <= 0 or size % self.group.world_size:
            raise JobError("the batch size cannot be dealt out to the ranks", value=size, fix=f"use a multiple of {self.group.world_size}")
        if size > rows:
            raise JobError(f"a batch is larger than the {self.over.split!r} split", value=size, fix=f"use at most {rows}")
        return rows // size


class _Dealt:
    """The batches of a feed by their number: read on in order, and anew where a replica has jumped."""

    def __init__(self, loop: ReplicaLoop, each_epoch: int) -> None:
        self._loop = loop
        self._each_epoch = each_epoch
        self._place = (-1, -1)
        self._batch: Batch = {}
        self._following: Iterator[Any] = iter(())

    def at(self, epoch: int, within: int) -> Batch:
        """This rank's share of a batch."""
        if (epoch, within) != self._place:
            if self._place != (epoch, within - 1):
                loop = self._loop
                self._following = loop.feed.batches(
                    loop.over.split,
                    batch_size=loop.over.batch_size,
                    rank=loop.group.rank,
                    world_size=loop.group.world_size,
                    epoch=epoch,
                    seed=loop.over.seed,
                    start=within * loop.over.batch_size,
                )
            self._place, self._batch = (epoch, within), self._loop.encode(next(self._following).columns)
        return self._batch
