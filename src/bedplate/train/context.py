"""The run context: what a training function is handed, and how it is called on one rank.

User code never touches ranks: the model is built and shared here, rows are dealt out, gradients meet, one rank writes.
Does not know: how ranks are started (`ranks`), or where the feed's rows come from.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError
from bedplate.core.journal import JournalWriter
from bedplate.core.protocols import Feed
from bedplate.core.versions import Output
from bedplate.train.arguments import call_arguments
from bedplate.train.bundle import is_estimator, save_estimator, save_model
from bedplate.train.counters import HostCounters, RunDelay
from bedplate.train.distributed import Group
from bedplate.train.execution import Execution
from bedplate.train.keeper import Keeper
from bedplate.train.loop import Batch, Pass, TrainingLoop
from bedplate.train.losses import LossWatch
from bedplate.train.memory import Memory
from bedplate.train.mesh import Mesh
from bedplate.train.metrics import MetricBuffer, Pending
from bedplate.train.notice import StopNotice
from bedplate.train.overlap import ExposedCommunication
from bedplate.train.parallel import Parallel, parallel_for
from bedplate.train.preprocess import ColumnEncoder, Columns, Preprocessing, Signature, fit
from bedplate.train.profiling import window_of
from bedplate.train.recovery import Recovery
from bedplate.train.replicas import ReplicaGroup, ReplicaLoop, replica_group
from bedplate.train.seat import Seat
from bedplate.train.timers import Timers
from bedplate.train.tree import seed_everything
from bedplate.train.validation import mean_loss

PROGRESS_EVERY_S = 0.5
FITTED_FILE = "preprocessing.json"

LossFunction = Callable[[torch.nn.Module, Batch], torch.Tensor]


class RunContext:
    """The run of a training function on one rank. Only rank 0 writes to the journal."""

    def __init__(
        self, attempt: Attempt, feed: Feed | None, journal: JournalWriter, group: Group, notice: StopNotice, memory: Memory | None = None
    ) -> None:
        """Rank 0 fits the preprocessing of `feed`; the others take what it fitted. A run without a feed has no batches."""
        self.attempt = attempt
        self.rank = group.rank
        self.world_size = group.world_size
        self.params: Mapping[str, Any] = dict(attempt.spec.get("params", {}))
        self.device = device_of(attempt, group.rank)
        self.seed = int(self.params.get("seed") or 0)
        self._feed = feed
        self._journal = journal
        self._group = group
        self._notice = notice
        self._memory = memory or Memory(Seat(group.rank, group.world_size), keeps=False)
        self._metrics = MetricBuffer(journal, group, self._memory.pending)
        self._replicas = group if isinstance(group, ReplicaGroup) else None
        self._replica_loop: ReplicaLoop | None = None
        mesh = Mesh.of(attempt.spec.get("mesh"), group.world_size) if self._replicas is None else Mesh()
        self.parallel: Parallel = parallel_for(mesh, group.rank, self.device, Execution.of(attempt.spec), self.seed)
        if self._replicas is None:
            group.deal(self.parallel.mesh.batch_rank(group.rank), self.parallel.mesh.batch_ranks)
        self.timers = Timers(counters=HostCounters(), delay=RunDelay(), event=_device_event if self.device.type == "cuda" else None)
        self._window = window_of(attempt, group.rank)
        self._exposed: ExposedCommunication | None = None
        self._model: torch.nn.Module | None = None
        self._keeper: Keeper | None = None
        self._step = 0
        self._progress_at_s = -math.inf
        self._preprocessing = _fitted(attempt, feed, group) if feed is not None else None

    @property
    def out(self) -> Path:
        """The folder for files of one's own; rank 0 writes them."""
        self.attempt.out.mkdir(parents=True, exist_ok=True)
        return self.attempt.out

    @property
    def feed(self) -> Feed:
        """The rows. Raises JobError for a job without inputs."""
        if self._feed is None:
            raise JobError("this run has no rows", fix="declare `inputs` for the job")
        return self._feed

    @property
    def preprocessing(self) -> Preprocessing:
        """What was fitted on the train split. Raises JobError for a job without inputs."""
        if self._preprocessing is None:
            raise JobError("this run has no rows to fit preprocessing on", fix="declare `inputs` for the job")
        return self._preprocessing

    @property
    def signature(self) -> Signature:
        """What the model takes and gives. Raises JobError for a job without inputs."""
        return self.preprocessing.signature

    def parallelize(self, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """The model that `build` builds, on the run's device and under the job's mesh.

        It has the values that one process would give it, and its parameters are those to hand to an optimizer. Under a mesh that shares the
        model, rank 0 alone builds with values, and `build` may be called on the meta device. Ranks with samples of their own go on with
        random numbers of their own. Raises JobError for a mesh that this model cannot be run under.
        """
        self._model = self.parallel.build(build)
        if isinstance(self._model, DistributedDataParallel):
            self._exposed = ExposedCommunication(self._model)
        return self._model

    def batches(self, split: str, *, epochs: int = 1, batch_size: int = 4096, state: Sequence[Any] | None = None) -> Iterator[Batch]:
        """Batches of "numeric" float32 [rows, n], "categorical" int64 [rows, m] and "label" float32 [rows] on the run's device.

        With `state` (anything that has a `state_dict`), the training loop: shuffled, dealt out to the ranks (`batch_size` counts samples
        over all of them), restored, checkpointed, ended on notice. Without, a plain pass in order over all rows on every rank.
        Raises JobError for a batch size that does not fit.
        """
        if state is None:
            return self._plain(split, epochs, batch_size)
        if self._keeper is None:
            alone = self._group if self._replicas is None else Group(0, 1)
            self._keeper = Keeper(self.attempt, self._journal, alone, self.device)
        if self._replicas is not None:
            self._replica_loop = self._looped(self._replicas, self._keeper, Pass(split, epochs, batch_size, self.seed), state)
            return self._replica_loop.batches()
        loop = TrainingLoop(
            over=Pass(split, epochs, batch_size, self.seed),
            state=tuple(state),
            feed=self.feed,
            encode=self._encode,
            progress=self._loop_progress,
            group=self._group,
            notice=self._notice,
            metrics=self._metrics,
            keeper=self._keeper,
            memory=self._memory,
            watch=LossWatch(self.attempt.spec.get("loss_spike")),
            timers=self.timers,
            write_timings=self._write_timings,
            stepped=self._stepped,
            notices=lambda notice: self.record("notice", **notice),
        )
        return loop.batches()

    def _looped(self, group: ReplicaGroup, keeper: Keeper, over: Pass, state: Sequence[Any]) -> ReplicaLoop:
        return ReplicaLoop(
            over=over,
            state=tuple(state),
            feed=self.feed,
            encode=self._encode,
            progress=self._loop_progress,
            tell=lambda text: self._journal.write("message", text=text),
            group=group,
            notice=self._notice,
            metrics=self._metrics,
            keeper=keeper,
            memory=self._memory,
            watch=LossWatch(self.attempt.spec.get("loss_spike")),
            timers=self.timers,
            write_timings=self._write_timings,
            stepped=self._stepped,
            device=self.device,
        )

    def backward(self, loss_function: LossFunction, batch: Batch) -> torch.Tensor:
        """Compute `loss_function(model, batch)`, the mean over the batch's rows, and its gradients; returns it detached, on the device.

        In micro-batches where the job accumulates or the mesh has a pipeline: then the function is called for each, and the mean returned.
        The ranks of a pipeline get the same. Raises JobError before `parallelize`, and for a loss that is no scalar.
        """
        if self._model is None:
            raise JobError("there is no model to compute a loss of", fix="build it with run.parallelize")
        with self.timers.span("compute"):
            loss = self.parallel.backward(self._model, loss_function, batch, self._memory.drawn)
        if self._exposed is not None:
            self.timers.move("compute", "communication", self._exposed.exposed_s(self.timers.spent_s("compute")))
        if self.parallel.waited_s:
            self.timers.move("compute", "communication", self.parallel.waited_s)
        return loss

    def update(self, optimizer: torch.optim.Optimizer, clip: float | None = None) -> torch.Tensor | None:
        """One step of the optimizer, with the norm of all gradients of the whole model cut to `clip`; then gradients are cleared.

        Returns the norm before it was cut, on the device; None without `clip`.
        """
        norm: torch.Tensor | None = None
        if self._replica_loop is not None:
            with self.timers.span("communication"):
                self._replica_loop.reduce(optimizer)
        if clip is not None:
            with self.timers.span("communication" if self.parallel.meets_to_clip else "optimizer"):
                norm = self.parallel.clip((each for group in optimizer.param_groups for each in group["params"]), clip)
        with self.timers.span("optimizer"):
            if self._replica_loop is None or self._replica_loop.commits():
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def evaluate(self, loss_function: LossFunction, split: str = "valid", batch_size: int = 4096) -> float:
        """The mean of `loss_function(model, batch)` over all rows of a split, on every rank; without gradients, in the mode of evaluation.

        `batch_size` counts the rows that one copy of the model takes at a time. Under every mesh; every rank calls this.
        Raises JobError before `parallelize`, and for a split without rows.
        """
        if self._model is None:
            raise JobError("there is no model to compute a loss of", fix="build it with run.parallelize")
        model, place = self._model, (0, 1) if self._replicas is not None else (self._group.batch_rank, self._group.batch_ranks)
        rows = ((len(next(iter(columns.values()))), columns) for columns in self.feed.in_order(split, batch_size))
        self._memory.move("outside")  # it takes its time, and is no hang
        try:
            return mean_loss(rows, lambda columns: self.parallel.measure(model, loss_function, self._encode(columns)), *place)
        finally:
            self._memory.move("user")

    def log(self, *, step: int | None = None, **values: Any) -> None:
        """Record metrics, tensors of one element or numbers; what is written is the mean over ranks. Never waits for the device.

        The step is the training loop's unless given. Raises JobError for what is no number.
        """
        if step is None:
            looped = self._keeper.steps if self._keeper is not None else 0
            self._step = looped or self._step + 1
        self._metrics.add(self._step if step is None else step, values)
        if self.world_size == 1 and self._metrics.due():
            self._metrics.flush()

    def tag(self, **values: str | int | float | bool) -> None:
        """Record tags: facts about the run that are no metrics."""
        self.record("tag", values=values)

    def progress(self, done: float, total: float | None, unit: str = "steps", note: str = "") -> None:
        """Say how far the work is. Cheap: one entry each half second is written, but the first and the last always are."""
        now = time.monotonic()
        if done == total or now - self._progress_at_s >= PROGRESS_EVERY_S:
            self._progress_at_s = now
            self.record("progress", done=done, total=total, unit=unit, note=note)

    def record(self, kind: str, **body: Any) -> None:
        """Write a journal entry; ranks other than 0 write none."""
        if self.rank == 0:
            self._journal.write(kind, **body)

    def save(self, model: torch.nn.Module | Any) -> Output:
        """Write the whole model with the fitted preprocessing as the run's output, which is returned.

        Its tensors have the names that they have in one process, whatever the mesh. Every rank calls this; rank 0 writes. An estimator of
        scikit-learn is written as rank 0 has it, by skops. Raises JobError for anything else.
        """
        with self._notice.deferred():  # what is as good as done is finished
            self._metrics.flush()
            if isinstance(model, torch.nn.Module):
                weights = self.parallel.weights(model)
                made = self._save(save_model, weights) if weights is not None else None
            elif is_estimator(model):
                made = self._save(save_estimator, model) if self.rank == 0 else None
            else:
                fix = "save a torch.nn.Module or an estimator of scikit-learn; other models: files below `run.out / 'model'` of a command"
                raise JobError("this is no model that can be saved", value=type(model).__name__, fix=fix)
            return Output.from_json(json.loads(self._group.broadcast(made)))

    def finish(self) -> None:
        """Bring the last metrics home and part. Every rank calls this, after success only."""
        self._metrics.flush()
        if self._keeper is not None:
            self._keeper.finish()
        self._group.part()

    def _unwritten(self) -> list[Pending]:
        """Metrics that are not in the journal yet."""
        return self._metrics.pending

    def settle(self, *, lost: bool = False) -> None:
        """Let a checkpoint that is being written be written whole, and write the last timings. `lost`: other ranks may be gone."""
        if self._keeper is not None:
            if lost:
                self._keeper.abandon()
            self._keeper.wait()
            self._keeper.close()
        self._write_timings(last=True)

    def _stepped(self) -> None:
        """A step has ended: go on with the profiled window, where the job asks for one."""
        if self._window is None:
            return
        steps = self._keeper.steps if self._keeper is not None else 0
        self._memory.move("outside")  # writing a trace takes its time, and is no hang
        found = self._window.step()
        self._memory.move("input", steps)  # with the same number of steps: what that took is no part of the next one
        if found is not None:
            self._window = None
            self._journal.write("profile", last=steps, **found)

    def _write_timings(self, last: bool) -> None:
        for row in self.timers.drain(last):
            self._journal.write("timing", **row)

    def _save(self, write: Callable[..., tuple[str, dict[str, Any]]], model: Any) -> bytes:
        folder = self.out / "model"
        digest, manifest = write(folder, model, self.preprocessing, self.params)
        metrics = {name: value for name, value in self._metrics.last.items() if math.isfinite(value)}
        meta = {"metrics": metrics, "params": dict(self.params), "files": manifest["files"]}
        location = str(folder.relative_to(self.attempt.state))
        output = Output(str(self.attempt.spec.get("model", self.attempt.step)), "model", digest, location, meta)
        self._journal.write("output", **output.to_json())
        self._journal.sync()
        return json.dumps(output.to_json()).encode()

    @cached_property
    def _encoder(self) -> ColumnEncoder:
        return self.preprocessing.encoder(self.feed.dictionary)

    def _encode(self, columns: Columns) -> Batch:
        return {name: torch.from_numpy(array).to(self.device, non_blocking=True) for name, array in self._encoder.encode(columns).items()}

    def _plain(self, split: str, epochs: int, batch_size: int) -> Iterator[Batch]:
        for _ in range(epochs):
            for columns in self.feed.in_order(split, batch_size):
                yield self._encode(columns)

    def _loop_progress(self, done: int, total: int, note: str) -> None:
        self.progress(done, total, "samples", note)


def _fitted(attempt: Attempt, feed: Feed, group: Group) -> Preprocessing:
    """Fitted once an attempt: what an earlier generation of it fitted is read again."""
    known = attempt.path / FITTED_FILE
    if group.rank == 0 and not known.exists():
        write_json(known, fit(feed).to_json())
    fitted = known.read_bytes() if group.rank == 0 else None
    return Preprocessing.from_json(json.loads(group.broadcast(fitted)))


def _device_event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call] # torch has no types for it


def device_of(attempt: Attempt, rank: int) -> torch.device:
    """The accelerator that the plan gave to a rank (all ranks of an attempt here are on one machine), or the CPU."""
    return torch.device("cuda", attempt.accelerators[rank]) if attempt.accelerators else torch.device("cpu")


def execute(
    attempt: Attempt, feed: Feed | None, rank: int | Seat, function: Callable[..., Any], context: Callable[..., RunContext] = RunContext
) -> Any:
    """Call `function(run, ...)` on one rank and return what it returns. `context` makes the run, for one that offers more.

    When another rank is lost, and the host has an assignment for this one, the function is called again from its start in this same
    process: imports and feed are kept, and its training loop goes on where the ranks agree to. Raises JobError for parameters that do
    not fit, Stopped on notice (a checkpoint is committed then, if a training loop was on), and whatever the function raises.
    """
    arguments = call_arguments(function, attempt.spec.get("params", {}))
    seat = rank if isinstance(rank, Seat) else Seat(rank, attempt.world_size)
    device = device_of(attempt, seat.rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    recovery = Recovery(attempt, seat, device)

    def life(attempt: Attempt, memory: Memory, notice: StopNotice) -> Any:
        """One generation."""
        run: RunContext | None = None
        lost = False
        journal = recovery.journal()
        try:
            replicas = attempt.spec.get("recovery") == "replicas"
            group = replica_group(attempt, seat.rank, device) if replicas else Group.join(attempt, seat.rank, device, seat.generation)
            memory.sockets = group.sockets
            run = context(attempt, feed, journal, group, notice, memory)
            run.params = {**run.params, **arguments}
            run.record("param", values=dict(run.params))
            seed_everything(run.seed)
            result = function(run, **arguments)
            run.finish()
            return result
        except Exception:
            lost = seat.world_size > 1
            raise
        finally:
            if run is not None:
                memory.pending = run._unwritten()
                run.settle(lost=lost)

    with StopNotice() as notice:
        return recovery.lives(life, notice)
