"""Checkpoints: how long a step is blocked and how long the whole save takes, beside torch.distributed.checkpoint (DCP) and a memcpy."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.table import Row

ROUNDS = 15
WIDTH, LAYERS = 2048, 11  # 176 MiB of parameters, 528 MiB with AdamW's state

PROGRAM = """
import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper

folder, rounds, width, layers = Path(sys.argv[1]), *map(int, sys.argv[2:5])
mine = folder / "runs" / "r" / "1"
mine.mkdir(parents=True)
spec = {"checkpoint": {"every_s": 3600.0, "tiers": ["disk"], "keep": {"last": 100}}}
attempt = Attempt("r", 1, "fit", "train", str(mine), str(folder), str(folder), str(folder), spec, {}, (), ())
keeper = Keeper(attempt, JournalWriter(mine, "rank-0"), Group(0, 1), torch.device("cpu"))

model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))
optimizer = torch.optim.AdamW(model.parameters())
model(torch.randn(1, width)).sum().backward()
optimizer.step()
state = [model, optimizer]
states = get_state_dict(model, optimizer)
theirs = {"model": states[0], "optimizer": states[1]}
nbytes = 3 * sum(parameter.nbytes for parameter in model.parameters())
source, target = torch.ones(nbytes // 4), torch.zeros(nbytes // 4)
plain = {"use_pinned_memory": False, "use_non_blocking_copy": False, "use_shared_memory": False, "use_async_staging": False}
stager = DefaultStager(StagingOptions(**plain))
times = {name: [] for name in ("memcpy", "blocked", "whole", "dcp", "dcp_blocked")}


def timed(name, work):
    started_s = time.perf_counter()
    result = work()
    times[name].append(time.perf_counter() - started_s)
    return result


for step in range(-1, rounds):  # the first round of each warms up
    os.sync()  # what the round before left to be written would slow down whoever comes first
    timed("memcpy", lambda: target.copy_(source))
    started_s = time.perf_counter()
    timed("blocked", lambda: keeper.save(Position(0, 0, step, step), state, {}))
    keeper.wait()
    times["whole"].append(time.perf_counter() - started_s)
    shutil.rmtree(mine / "checkpoints")  # deleting is in no save's time
    timed("memcpy", lambda: target.copy_(source))
    os.sync()
    timed("dcp", lambda: dcp.save(theirs, checkpoint_id=folder / "dcp", no_dist=True))
    shutil.rmtree(folder / "dcp")
    writer = dcp.FileSystemWriter(folder / "dcp")
    future = timed("dcp_blocked", lambda: dcp.async_save(theirs, storage_writer=writer, async_stager=stager, no_dist=True))
    getattr(future, "upload_completion", future).result()
    shutil.rmtree(folder / "dcp")
    if step == -1:
        print(json.dumps({"first_blocked": times["blocked"][0]}), file=sys.stderr)
        times = {name: [] for name in times}
print(json.dumps({"bytes": nbytes, **times}))
"""


def rows() -> list[Row]:
    """Medians over interleaved rounds, in one process."""
    folder = Path(tempfile.mkdtemp(prefix="bedplate-checkpoints-"))
    try:
        (folder / "program.py").write_text(PROGRAM)
        command = [sys.executable, "-W", "ignore", str(folder / "program.py"), str(folder), str(ROUNDS), str(WIDTH), str(LAYERS)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    finally:
        shutil.rmtree(folder)
    found = json.loads(done.stdout)
    mib = found.pop("bytes") / 2**20
    median = {name: statistics.median(times) for name, times in found.items()}
    blocked = f"{min(found['blocked']):.3g} to {max(found['blocked']):.3g}"
    speeds = f"{mib / max(found['whole']):.3g} to {mib / min(found['whole']):.3g}"
    what = f"checkpoint of {mib:.0f} MiB"
    return [
        Row(f"{what}: step blocked", median["blocked"], "s", blocked, median["memcpy"], "memcpy of the state", 1.5),
        Row(f"{what}: step blocked", median["blocked"], "s", blocked, median["dcp"], "DCP save", 0.25),
        Row(f"{what}: step blocked", median["blocked"], "s", blocked, median["dcp_blocked"], "DCP async_save"),
        Row(f"{what}: whole save with digests", mib / median["whole"], "MiB/s", speeds, mib / median["dcp"], "DCP save", 0.9, True),
    ]
