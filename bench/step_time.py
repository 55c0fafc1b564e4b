"""Steady-state step time under bedplate beside the same model and loop with torchrun's environment alone; the run context's own cost.

Both have two ranks alive at once and take turns: a turn is some steps of one, then as many of the other, in an order that alternates.
So the two of a pair see the same machine. The ratio is the median of the pairs' ratios, with a bootstrap interval.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.table import Row

PAIRS = 24
STEPS_A_TURN = 8
RESAMPLES = 10_000
LIMIT = 1.03
OWN_LIMIT_US = 300.0

PROJECT = """
project: step-time
datasets:
  rows: {source: rows.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, at: timestamp, x: float, y: float}}
jobs:
  fit:
    function: fit.py:fit
    inputs: {spine: rows, columns: [x], label: rows.y}
    params: {turns: ""}
    resources: {workers: 2}
  alone:
    function: fit.py:alone
    inputs: {spine: rows, columns: [x], label: rows.y}
    params: {told: ""}
"""

FIT = '''
import json
import os
import socket
import subprocess
import sys
import time

import torch
from torch.nn import functional

from bedplate.train.decoder import Decoder, DecoderConfig

CONFIG = DecoderConfig(vocabulary=512, width=160, layers=4, heads=4, key_value_heads=2, hidden=448, length=64)
ROWS, LENGTH = 8, 65


def tokens_of(numeric):
    places = torch.arange(LENGTH, dtype=torch.float32)
    return ((numeric[:, :1] * 1000 + places * 37).long().abs()) % CONFIG.vocabulary


def loss_of(model, batch):
    tokens = tokens_of(batch["numeric"])
    return functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


class Turns:
    """A rank waits at its pipe for a turn, and rank 0 says how long the steps of the turn took."""

    def __init__(self, folder, name, rank):
        self.calls = open(os.path.join(folder, f"{name}-{rank}"), "rb", buffering=0)
        self.told = open(os.path.join(folder, f"{name}-told"), "wb", buffering=0) if rank == 0 else None
        self.steps = self.left = 0

    def before(self):
        """At the beginning of a step; False when there are no more turns."""
        if self.left == 0:
            self.steps = self.left = self.calls.read(1)[0]
            self.started = time.perf_counter(), time.process_time()
        self.left -= 1
        return self.steps > 1

    def after(self):
        if self.left == 0 and self.told is not None:
            ended = time.perf_counter(), time.process_time()
            self.told.write(json.dumps([(end - start) / self.steps for end, start in zip(ended, self.started)]).encode() + b"\\n")


def fit(run, turns=""):
    model = run.parallelize(lambda: Decoder(CONFIG))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    turn = Turns(turns, "ours", run.rank)
    for batch in run.batches("train", epochs=100_000, state=[model, optimizer], batch_size=2 * ROWS):
        if not turn.before():
            break
        loss = run.backward(loss_of, batch)
        run.update(optimizer, clip=1.0)
        run.log(loss=loss)
        turn.after()


def main(folder):
    """The peer: the same with torchrun's environment and nothing else. Both ranks in one session, which the kernel schedules as one."""
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(Decoder(CONFIG), gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    numeric = torch.arange(2 * ROWS, dtype=torch.float32)[rank * ROWS : (rank + 1) * ROWS, None] % 17
    turn = Turns(folder, "peer", rank)
    losses = []
    while turn.before():
        loss = loss_of(model, {"numeric": numeric})
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        turn.after()
    torch.distributed.destroy_process_group()


def alone(run, told=""):
    """What a step costs beyond what it computes, in CPU time of all threads: a tiny model in the run's loop, and bare."""
    steps, rounds = 100, 60
    model = run.parallelize(lambda: torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)

    def tiny(net, batch):
        return ((net(batch["numeric"][:, :1]).squeeze(1) - batch["label"]) ** 2).mean()

    ours, bare = [], []
    started = time.process_time()
    for number, batch in enumerate(run.batches("train", epochs=100_000, state=[model, optimizer], batch_size=64), 1):
        run.log(loss=run.backward(tiny, batch))
        run.update(optimizer)
        if number % steps == 0:
            ours.append((time.process_time() - started) / steps)
            started = time.process_time()
            for _ in range(steps):
                loss = tiny(model, batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            bare.append((time.process_time() - started) / steps)
            if len(ours) == rounds:
                break
            started = time.process_time()
    with open(told, "w") as file:
        json.dump({"ours": ours, "bare": bare}, file)


def start(folder):
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, __file__, folder], env={**common, "RANK": str(rank)}) for rank in (0, 1)]
    sys.exit(max(rank.wait() for rank in ranks))


if __name__ == "__main__":
    main(sys.argv[1]) if "RANK" in os.environ else start(sys.argv[1])
'''


def rows() -> list[Row]:
    """The ratio of step times, and the run context's own cost."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-step-time-"))
    try:
        (folder / "bedplate.yaml").write_text(PROJECT)
        (folder / "fit.py").write_text(FIT)
        lines = "\n".join(f"{n},2024-01-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z,{n % 17},{n % 5}" for n in range(4000))
        (folder / "rows.csv").write_text("id,at,x,y\n" + lines + "\n")
        command = [sys.executable, "-m", "bedplate.cli.main", "run"]
        subprocess.run([*command, "fit.inputs", "alone.inputs", "-C", str(folder)], check=True, capture_output=True)
        return [_ratio(folder, command), _own(folder, command)]
    finally:
        shutil.rmtree(folder)


def _ratio(folder: Path, command: Sequence[str]) -> Row:
    for name in ("ours", "peer"):
        for end in ("0", "1", "told"):
            os.mkfifo(folder / f"{name}-{end}")
    settings = ["--set", f"turns={json.dumps(str(folder))}"]
    with (
        (folder / "ours.log").open("w") as ours_log,
        (folder / "peer.log").open("w") as peer_log,
        subprocess.Popen([*command, "fit", "-C", str(folder), *settings], stdout=ours_log, stderr=ours_log) as ours,
        subprocess.Popen(
            [sys.executable, "fit.py", str(folder)], cwd=folder, stdout=peer_log, stderr=peer_log, start_new_session=True
        ) as peer,
    ):
        sides = {"ours": _Side(folder, "ours"), "peer": _Side(folder, "peer")}
        times: dict[str, list[tuple[float, float]]] = {"ours": [], "peer": []}
        for side in sides.values():
            side.turn(STEPS_A_TURN)  # buckets, caches and allocators settle
        for pair in range(PAIRS):
            for name in ("ours", "peer") if pair % 2 else ("peer", "ours"):
                times[name].append(sides[name].turn(STEPS_A_TURN))
        for side in sides.values():
            side.end()
        if ours.wait(120) or peer.wait(120):
            raise RuntimeError((folder / "ours.log").read_text() + (folder / "peer.log").read_text())
    ratios, of_cpu = ([mine[at] / other[at] for mine, other in zip(times["ours"], times["peer"], strict=True)] for at in (0, 1))
    low, high = bootstrap(ratios)
    what = f"step time, 2 workers: upper end of the ratio over {PAIRS} pairs"
    spread = f"ratio {statistics.median(ratios):.3f}, 95% {low:.3f} to {high:.3f}"
    ours_ms, peer_ms = (statistics.median(wall_s for wall_s, _ in times[name]) * 1e3 for name in ("ours", "peer"))
    spread += f"; {ours_ms:.1f} and {peer_ms:.1f} ms; of CPU time of rank 0 {statistics.median(of_cpu):.3f}"
    return Row(what, high, "x", spread, limit=LIMIT)


class _Side:
    """The bench's ends of the pipes of one side."""

    def __init__(self, folder: Path, name: str) -> None:
        self._calls = [(folder / f"{name}-{rank}").open("wb", buffering=0) for rank in (0, 1)]
        self._told = (folder / f"{name}-told").open("rb", buffering=0)

    def turn(self, steps: int) -> tuple[float, float]:
        """Wall and CPU seconds a step."""
        for call in self._calls:
            call.write(bytes([steps]))
        wall_s, cpu_s = json.loads(self._told.readline())
        return wall_s, cpu_s

    def end(self) -> None:
        for call in self._calls:
            call.write(bytes([1]))
            call.close()
        self._told.close()


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """The 95% percentile interval of the median (Efron 1979), from a fixed seed."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def _own(folder: Path, command: Sequence[str]) -> Row:
    told = folder / "told.json"
    done = subprocess.run([*command, "alone", "-C", str(folder), "--set", f"told={json.dumps(str(told))}"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    times = json.loads(told.read_text())
    own_us = [(mine - bare) * 1e6 for mine, bare in zip(times["ours"], times["bare"], strict=True)]
    spread = f"{min(own_us):.0f} to {max(own_us):.0f}"
    return Row("the run context's own cost of a step", statistics.median(own_us), "us", spread, limit=OWN_LIMIT_US)
