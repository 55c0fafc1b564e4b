"""From command to the first finished step of a two-worker run, beside torchrun of the same model, data and loop."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import Row

PAIRS = 5

PROJECT = """
project: first-step
datasets:
  rows: {source: rows.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, at: timestamp, x: float, y: float}}
jobs:
  fit:
    function: fit.py:fit
    inputs: {spine: rows, columns: [x], label: rows.y}
    params: {salt: 0, mark: ""}
    resources: {workers: 2}
"""

FIT = '''
import os
import time

import torch
from torch import nn


def net(width):
    return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))


def loss_of(model, numeric, label):
    return torch.mean((model(numeric).squeeze(1) - label) ** 2)


def fit(run, salt=0, mark=""):
    model = run.parallelize(lambda: net(run.signature.numeric_width))
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in run.batches("train", epochs=1, state=[model, optimizer], batch_size=64):
        run.backward(lambda m, b: loss_of(m, b["numeric"], b["label"]), batch)
        run.update(optimizer)
        finished(mark, run.rank)
    return run.save(model)


def finished(mark, rank):
    if rank == 0 and not os.path.exists(mark):
        with open(mark + ".part", "w") as file:
            file.write(repr(time.time()))
        os.replace(mark + ".part", mark)


def main():
    """The same under torchrun: the peer."""
    import csv
    import sys

    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    with open("rows.csv") as file:
        table = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    numeric = torch.tensor([[x] for x, _ in table])
    label = torch.tensor([y for _, y in table])
    model = DistributedDataParallel(net(1))
    optimizer = torch.optim.AdamW(model.parameters())
    for start in range(0, len(table) - 63, 64):
        mine = slice(start + rank * (64 // size), start + (rank + 1) * (64 // size))
        loss_of(model, numeric[mine], label[mine]).backward()
        optimizer.step()
        optimizer.zero_grad()
        finished(sys.argv[1], rank)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
'''


def rows() -> list[Row]:
    """Medians over interleaved pairs."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-first-step-"))
    try:
        (folder / "bedplate.yaml").write_text(PROJECT)
        (folder / "fit.py").write_text(FIT)
        lines = "\n".join(f"{n},2024-01-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z,{n % 17},{n % 5}" for n in range(2000))
        (folder / "rows.csv").write_text("id,at,x,y\n" + lines + "\n")
        command = [sys.executable, "-m", "bedplate.cli.main", "run"]
        subprocess.run([*command, "fit.inputs", "-C", str(folder)], check=True, capture_output=True)
        ours, peers = [], []
        for pair in range(PAIRS):
            mark = folder / f"ours-{pair}"
            settings = ["--set", f"salt={pair + 1}", "--set", f"mark={json.dumps(str(mark))}"]
            ours.append(_timed([*command, "fit", "-C", str(folder), *settings], folder, mark))
            mark = folder / f"peer-{pair}"
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "fit.py", str(mark)]
            peers.append(_timed(torchrun, folder, mark))
    finally:
        shutil.rmtree(folder)
    spread = f"{min(ours):.3g} to {max(ours):.3g}"
    row = Row("command to first finished step, 2 workers", statistics.median(ours), "s", spread, statistics.median(peers), "torchrun", 0.75)
    return [row]


def _timed(command: list[str], folder: Path, mark: Path) -> float:
    started_s = time.time()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return float(mark.read_text()) - started_s
