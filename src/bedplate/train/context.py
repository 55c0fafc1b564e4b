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

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError
from bedplate.core.journal import JournalWriter
from bedplate.core.protocols import Feed
from bedplate.core.versions import Output
from bedplate.train.arguments import call_arguments
from bedplate.train.bundle import save_model
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper, bare
from bedplate.train.loop import Batch, Pass, TrainingLoop
from bedplate.train.metrics import MetricBuffer
from bedplate.train.notice import StopNotice
from bedplate.train.preprocess import ColumnEncoder, Columns, Preprocessing, Signature, fit
from bedplate.train.tree import seed_everything

PROGRESS_EVERY_S = 0.5

LossFunction = Callable[[torch.nn.Module, Batch], torch.Tensor]


class RunContext:
    """The run of a training function on one rank. Only rank 0 writes to the journal."""

    def __init__(self, attempt: Attempt, feed: Feed | None, journal: JournalWriter, group: Group, notice: StopNotice) -> None:
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
        self._metrics = MetricBuffer(journal, group)
        self._model: torch.nn.Module | None = None
        self._keeper: Keeper | None = None
        self._step = 0
        self._progress_at_s = -math.inf
        self._preprocessing = _fitted(feed, group) if feed is not None else None

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
        """The model that `build` builds, on the run's device; with several ranks, one whose gradients are averaged over them.

        Every rank builds from the same seed, then goes on with random numbers of its own.
        """
        with self.device:
            module = build()
        self._model = module.to(self.device)
        if self.world_size > 1:
            indices = [self.device] if self.device.type == "cuda" else None
            self._model = DistributedDataParallel(self._model, device_ids=indices, gradient_as_bucket_view=True)
            torch.manual_seed((self.seed + 1) * 1_000_003 + self.rank)
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
            self._keeper = Keeper(self.attempt, self._journal, self._group, self.device)
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
        )
        return loop.batches()

    def backward(self, loss_function: LossFunction, batch: Batch) -> torch.Tensor:
        """Compute `loss_function(model, batch)`, a scalar, and its gradients; returns it detached, on the device.

        Raises JobError before `parallelize`, and for a loss that is no scalar.
        """
        if self._model is None:
            raise JobError("there is no model to compute a loss of", fix="build it with run.parallelize")
        loss = loss_function(self._model, batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise JobError("a loss must be one number", value=getattr(loss, "shape", type(loss).__name__), fix="return its mean")
        loss.backward()  # type: ignore[no-untyped-call] # torch has no types for it
        return loss.detach()

    def update(self, optimizer: torch.optim.Optimizer, clip: float | None = None) -> None:
        """One step of the optimizer, with the norm of all its gradients cut to `clip`; then gradients are cleared."""
        if clip is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

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

    def save(self, model: torch.nn.Module) -> Output:
        """Write the model with the fitted preprocessing as the run's output, which is returned. Every rank calls this; rank 0 writes."""
        with self._notice.deferred():  # what is as good as done is finished
            self._metrics.flush()
            made = self._save(model) if self.rank == 0 else None
            return Output.from_json(json.loads(self._group.broadcast(made)))

    def finish(self) -> None:
        """Bring the last metrics home and part. Every rank calls this, after success only."""
        self._metrics.flush()
        self._group.part()

    def settle(self) -> None:
        """Let a checkpoint that is being written be written whole."""
        if self._keeper is not None:
            self._keeper.wait()

    def _save(self, model: torch.nn.Module) -> bytes:
        folder = self.out / "model"
        digest, manifest = save_model(folder, bare(model), self.preprocessing, self.params)
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
        columns, rows = self.feed.columns(split), self.feed.rows(split)
        for _ in range(epochs):
            for start in range(0, rows, batch_size):
                yield self._encode({name: column[start : start + batch_size] for name, column in columns.items()})

    def _loop_progress(self, done: int, total: int, note: str) -> None:
        self.progress(done, total, "samples", note)


def _fitted(feed: Feed, group: Group) -> Preprocessing:
    fitted = json.dumps(fit(feed).to_json()).encode() if group.rank == 0 else None
    return Preprocessing.from_json(json.loads(group.broadcast(fitted)))


def device_of(attempt: Attempt, rank: int) -> torch.device:
    """The accelerator that the plan gave to a rank (all ranks of an attempt here are on one machine), or the CPU."""
    return torch.device("cuda", attempt.accelerators[rank]) if attempt.accelerators else torch.device("cpu")


def execute(
    attempt: Attempt, feed: Feed | None, rank: int, function: Callable[..., Any], context: Callable[..., RunContext] = RunContext
) -> Any:
    """Call `function(run, ...)` on one rank and return what it returns. `context` makes the run, for one that offers more.

    Raises JobError for parameters that do not fit, Stopped on notice (a checkpoint is committed then, if a training loop was on), and
    whatever the function raises.
    """
    arguments = call_arguments(function, attempt.spec.get("params", {}))
    journal = JournalWriter(attempt.path, f"rank-{rank}")
    run: RunContext | None = None
    try:
        with StopNotice() as notice:
            device = device_of(attempt, rank)
            if device.type == "cuda":
                torch.cuda.set_device(device)
            group = Group.join(attempt, rank, device)
            run = context(attempt, feed, journal, group, notice)
            run.params = {**run.params, **arguments}
            run.record("param", values=dict(run.params))
            seed_everything(run.seed)
            result = function(run, **arguments)
            run.finish()
            return result
    finally:
        if run is not None:
            run.settle()
        journal.close()
