"""From command to the first finished step of a two-worker run, beside Ray Train of the same model, data and loop.

Ray is installed in an environment of its own, with torch for the CPU.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.first_step import FIT, PROJECT
from bench.peers import python_of
from bench.table import Row

PAIRS = 3
LIMIT_S = 300.0

RAY = """
import sys

import ray
import ray.train.torch
import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from fit import finished, loss_of, net


def loop(config):
    import csv

    with open(config["rows"]) as file:
        table = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    numeric = torch.tensor([[x] for x, _ in table])
    label = torch.tensor([y for _, y in table])
    rank, size = ray.train.get_context().get_world_rank(), ray.train.get_context().get_world_size()
    model = ray.train.torch.prepare_model(net(1))
    optimizer = torch.optim.AdamW(model.parameters())
    for start in range(0, len(table) - 63, 64):
        mine = slice(start + rank * (64 // size), start + (rank + 1) * (64 // size))
        loss_of(model, numeric[mine], label[mine]).backward()
        optimizer.step()
        optimizer.zero_grad()
        finished(config["mark"], rank)


ray.init(include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": sys.argv[3]}})
TorchTrainer(
    loop,
    train_loop_config={"mark": sys.argv[1], "rows": sys.argv[2]},
    scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
).fit()
"""


def rows() -> list[Row]:
    """Medians over interleaved pairs."""
    python = python_of("ray-train", ("torch==2.13.0", "ray[train]>=2.50"))
    folder = Path(tempfile.mkdtemp(prefix="bedplate-first-step-ray-"))
    try:
        (folder / "bedplate.yaml").write_text(PROJECT)
        (folder / "fit.py").write_text(FIT)
        (folder / "with_ray.py").write_text(RAY)
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
            peers.append(_timed([str(python), "with_ray.py", str(mark), str(folder / "rows.csv"), str(folder)], folder, mark))
    finally:
        shutil.rmtree(folder)
    spread = f"{min(ours):.3g} to {max(ours):.3g}"
    what = "command to first finished step, 2 workers"
    return [Row(what, statistics.median(ours), "s", spread, statistics.median(peers), "Ray Train", 0.15)]


def _timed(command: list[str], folder: Path, mark: Path) -> float:
    started_s = time.time()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=LIMIT_S)
    return float(mark.read_text()) - started_s
