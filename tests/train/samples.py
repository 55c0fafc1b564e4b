"""What the tests of training share: a feed in memory, attempts in a folder, a small network and training functions.

The network has dropout and its training function draws from every global generator, so that a resumed run only ends with the same
weights when all of them are restored.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt
from bedplate.core.journal import Entry, JournalReader
from bedplate.core.protocols import FeedBatch, FeedSchema
from bedplate.train.checkpoints.folders import shared_memory

WORDS = ("AA", "B6", "DL", "UA", "unseen in train")


class ArrayFeed:
    """A feed over arrays, one mapping of columns for each split. `seen` keeps the row numbers of the batches that were dealt out."""

    def __init__(self, splits: Mapping[str, Mapping[str, np.ndarray]], schema: FeedSchema, words: Mapping[str, Sequence[str]]) -> None:
        self.schema = schema
        self.seen: list[int] = []
        self._splits = splits
        self._words = words

    def rows(self, split: str) -> int:
        return len(self._splits[split][self.schema.label])

    def columns(self, split: str) -> Mapping[str, np.ndarray]:
        return self._splits[split]

    def dictionary(self, column: str) -> Sequence[str]:
        return self._words[column]

    @property
    def tokenizer(self) -> None:
        return None

    def counters(self) -> Mapping[str, float]:
        return {}

    def in_order(self, split: str, batch_size: int) -> Iterator[Mapping[str, np.ndarray]]:
        for first in range(0, self.rows(split), batch_size):
            yield {name: column[first : first + batch_size] for name, column in self._splits[split].items()}

    def batches(
        self, split: str, *, batch_size: int, rank: int, world_size: int, epoch: int, seed: int, start: int = 0
    ) -> Iterator[FeedBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(self.rows(split))
        share = batch_size // world_size
        for first in range(start, len(order) - batch_size + 1, batch_size):
            mine = order[first + rank * share : first + (rank + 1) * share]
            self.seen += mine.tolist()
            yield FeedBatch(epoch, first + batch_size, {name: column[mine] for name, column in self._splits[split].items()})


def flights_feed(rows: int = 640) -> ArrayFeed:
    """A train split of `rows` rows and small other splits: two numeric columns (nulls in one), one categorical (nulls, an unseen word)."""
    generator = np.random.default_rng(7)

    def split(count: int, codes: int) -> dict[str, np.ndarray]:
        delay, distance = generator.normal(10, 30, count), generator.uniform(100, 3000, count)
        carrier = generator.integers(-1, codes, count).astype(np.int32)
        label = delay - 0.005 * distance + 2.0 * carrier + generator.normal(0, 1, count)
        return {
            "delay": np.where(generator.random(count) < 0.1, np.nan, delay),
            "distance": distance,
            "carrier": carrier,
            "arr_delay": label,
        }

    schema = FeedSchema(("delay", "distance"), ("carrier",), "arr_delay")
    return ArrayFeed({"train": split(rows, 4), "valid": split(50, 5), "test": split(60, 5)}, schema, {"carrier": WORDS})


def attempt_in(state: Path, *, token: int = 1, world_size: int = 1, checkpoint: Mapping[str, Any] | None = None, **spec: Any) -> Attempt:
    """An attempt of the run r1 below `state`, its file written. `spec` are fields of the step's spec."""
    folder = state / "runs" / "r1" / str(token)
    folder.mkdir(parents=True)
    attempt = Attempt(
        run="r1", token=token, step="train_delay", kind="train", folder=str(folder), root=str(state), state=str(state),
        code=str(Path(__file__).parent), spec={"model": "delay", "params": {}, **spec}, inputs={}, argv=(), shim_argv=(),
        world_size=world_size, checkpoint=checkpoint,
    )  # fmt: skip
    write_json(folder / ATTEMPT_FILE, attempt.to_json())
    return attempt


def journal_of(attempt: Attempt, kind: str | None = None) -> list[Entry]:
    """What was written to an attempt's journal, all or of one kind."""
    return [entry for entry in JournalReader(attempt.path).read() if kind in (None, entry.kind)]


def wait_until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    """Wait for a condition; fails the test after `limit_s`."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def build_net(signature: Any) -> Any:
    """A small network over numeric inputs and one embedding, with dropout."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(signature.cardinalities[0], 4)
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(signature.numeric_width + 4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 1)
            )

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            inputs = torch.cat([batch["numeric"], self.embedding(batch["categorical"][:, 0])], dim=1)
            return self.layers(inputs).squeeze(1) * signature.label_std + signature.label_mean

    return Net()


def squared_error(model: Any, batch: Any) -> Any:
    """The loss of the tests; noise from numpy's and Python's global generators is part of it."""
    noise = np.random.normal() + random.random()
    return ((model(batch) - batch["label"] + 0.01 * noise) ** 2).mean()


def train(run: Any, lr: float = 1e-2, epochs: int = 2, batch_size: int = 64, at_step: int = 0, act: str = "", who: int = 1) -> Any:
    """As a user writes it; besides, rank `who` does `act` at step `at_step`."""
    import torch

    print(f"rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')}, local {os.environ.get('LOCAL_RANK')}")
    model = run.parallelize(lambda: build_net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step, batch in enumerate(run.batches("train", epochs=epochs, state=[model, optimizer], batch_size=batch_size), 1):
        loss = run.backward(squared_error, batch)
        run.update(optimizer, clip=1.0)
        run.log(loss=loss, rank=float(run.rank))
        if step == at_step and run.rank == who:
            ACTS[act](run)
    return run.save(model)


def _checkpoints(run: Any) -> list[Path]:
    return sorted(run.attempt.path.glob("checkpoints/step-*/manifest.json"))


def _wait_for_checkpoint(run: Any) -> None:
    deadline_s = time.monotonic() + 30
    while not _checkpoints(run) and time.monotonic() < deadline_s:
        time.sleep(0.01)


def _die(run: Any) -> None:
    _wait_for_checkpoint(run)
    os.kill(os.getpid(), signal.SIGKILL)


def _stop_host(run: Any) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    deadline_s = time.monotonic() + 30
    while not run._notice.given and time.monotonic() < deadline_s:  # until the host has passed it on
        time.sleep(0.01)


def _fail(run: Any) -> None:
    raise ValueError(f"the user's own mistake on rank {run.rank}")


def _hang(run: Any) -> None:
    (run.attempt.path / "hanging").write_text(str(os.getppid()))
    time.sleep(60)


def first_time(run: Any, name: str = "done") -> bool:
    """True once an attempt, whichever rank and generation asks."""
    try:
        os.close(os.open(run.attempt.path / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def disturbed(run: Any, at: str = "", who: int = 1, act: str = "kill", times: int = 1, plain: bool = False, epochs: int = 4) -> Any:
    """A training function in which rank `who` does something in the middle of global step `at`, at most `times` times."""
    import torch

    model = run.parallelize(lambda: build_net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=40)
    for batch in run.batches("train", epochs=epochs, state=[model, optimizer, schedule], batch_size=48):
        step = run._keeper.steps
        for place in at.split():
            where, _, number = place.partition(":")
            if step == int(number) and run.rank == who and where == "before":
                _disturb(run, act, times, step)
        if plain:
            loss = squared_error(model, batch)
            loss.backward()
            _between(run, at, who, act, times, step)
            optimizer.step()
            optimizer.zero_grad()
        else:
            loss = run.backward(squared_error, batch)
            _between(run, at, who, act, times, step)
            run.update(optimizer, clip=1.0)
        schedule.step()
        run.log(loss=loss, rank=float(run.rank))
        if f"after:{step}" in at.split() and run.rank == who:
            _disturb(run, act, times, step)
    return run.save(model)


def _between(run: Any, at: str, who: int, act: str, times: int, step: int) -> None:
    if f"between:{step}" in at.split() and run.rank == who:
        _disturb(run, act, times, step)


def _disturb(run: Any, act: str, times: int, step: int) -> None:
    if any(first_time(run, f"{act}-{step}-{number}") for number in range(times)):
        DISTURBANCES[act](run)


def _segfault(run: Any) -> None:
    import ctypes

    ctypes.string_at(0)


def _memory(run: Any) -> None:
    raise MemoryError("out of memory")


def _stand_still(run: Any) -> None:
    time.sleep(600)


def _nvlink(run: Any) -> None:
    print("NVLink: uncorrectable error", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _fewer_then_more(run: Any) -> None:
    (run.attempt.path.parent / "workers").write_text("2" if run._keeper.steps < 10 else "4")
    deadline_s = time.monotonic() + 30
    while not run._memory.called and time.monotonic() < deadline_s:  # until the host has seen it
        time.sleep(0.01)


def _kill_and_stop(run: Any) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_after_checkpoint(run: Any) -> None:
    _wait_for_checkpoint(run)
    os.kill(os.getpid(), signal.SIGKILL)


def slow(
    run: Any, epochs: int = 4, at: int = 0, who: int = 1, act: str = "kill", pause_s: float = 0.02, plain: bool = False, back_s: float = 0
) -> Any:
    """Training that takes its time, so that a rank that comes back finds the others at work; each rank writes down its steps."""
    import torch

    if run.rank == who and (run.attempt.path / "done").exists():
        time.sleep(back_s)  # a replacement that takes its time to come
    model = run.parallelize(lambda: build_net(run.signature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=40)
    with (run.attempt.path / f"steps-{run.rank}-{os.getpid()}").open("w", buffering=1) as steps:
        for batch in run.batches("train", epochs=epochs, state=[model, optimizer, schedule], batch_size=48):
            step = run._keeper.steps
            if step == at and run.rank == who and first_time(run):
                _disturb(run, act, 1, step)
            loss = run.backward(squared_error, batch)
            if plain:
                optimizer.step()
            else:
                run.update(optimizer, clip=1.0)
            schedule.step()
            run.log(loss=loss)
            print(step, schedule.last_epoch, file=steps)
            time.sleep(pause_s)
    torch.save(dict(model.state_dict()), run.attempt.path / f"weights-{run.rank}.pt")
    return run.save(model)


def _lose_host(run: Any) -> None:
    """As if the host of this rank were gone, with all that its memory holds, after a checkpoint that its partner has as well."""
    memory = shared_memory(Path(run.attempt.state)).root
    deadline_s = time.monotonic() + 30
    while not stored_in(run.attempt, "peer") and time.monotonic() < deadline_s:
        time.sleep(0.01)
    shutil.rmtree(memory / "peer" / f"rank-{run.rank}")
    for part in memory.glob(f"runs/*/*/checkpoints/*step-*/part-{run.rank}.*"):
        part.unlink()
    os.kill(os.getpid(), signal.SIGKILL)


def stored_in(attempt: Attempt, tier: str) -> list[int]:
    """The steps of the checkpoints that a tier was told to have."""
    told = [entry.body for entry in JournalReader(attempt.path).read() if entry.kind in ("checkpoint", "checkpoint_stored")]
    return [body["step"] for body in told if body["tier"] == tier]


def _five(run: Any) -> None:
    (run.attempt.path.parent / "workers").write_text("5")
    time.sleep(1)  # four looks of the host


def _kill_all(run: Any) -> None:
    for rank in range(run.world_size):
        if rank != run.rank:
            os.kill(int((run.attempt.path / f"pid-{rank}").read_text()), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


DISTURBANCES = {
    "kill_all": _kill_all,
    "stop": _stop_host,
    "five": _five,
    "lose_host": _lose_host,
    "nan": lambda run: run.log(loss=float("nan")),
    "nvlink": _nvlink,
    "fewer_then_more": _fewer_then_more,
    "kill_and_stop": _kill_and_stop,
    "kill_after_checkpoint": _kill_after_checkpoint,
    "kill": lambda run: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": _segfault,
    "exit": lambda run: os._exit(3),
    "memory": _memory,
    "sleep": _stand_still,
    "stopped": lambda run: os.kill(os.getpid(), signal.SIGSTOP),
}


def talk(run: Any) -> None:
    """Every rank takes part in each collective; rank 0 keeps what it learned."""
    group, rank = run._group, run.rank
    learned = {
        "agreed": group.agree([rank, -rank, 0.5]),
        "gathered": [part.decode() for part in group.gather(b"x" * rank * 1000)],
        "empty": [part.decode() for part in group.gather(b"")],
        "broadcast": group.broadcast(b"from 0" if rank == 0 else b"what others give is longer, and not looked at").decode(),
        "nothing": group.broadcast(b"").decode(),
    }
    write_json(run.attempt.path / f"learned-{rank}.json", learned)
    if rank == 0:
        run.log(step=1, only_here=1.0)
    run.log(step=1, everywhere=rank)


ACTS = {"die": _die, "stop": _stop_host, "fail": _fail, "hang": _hang}
