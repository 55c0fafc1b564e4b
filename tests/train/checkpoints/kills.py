"""Kills processes in the middle of saves, with the real keeper, and looks at what is left. Prints one JSON object.

    python kills.py FOLDER KILLS SEED

Torch is imported once; savers and checkers are forked. Half of the savers are two ranks, of which one or both are killed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.train.checkpoints.content import Position
from bedplate.train.checkpoints.folders import shared_memory
from bedplate.train.distributed import Group
from bedplate.train.keeper import Keeper
from train.samples import attempt_in, journal_of

CPU = torch.device("cpu")
FACTS = {"of": "kills"}
WIDTHS = (1 << 19, 1000, 3)  # of float32: about 2 MB
LIMIT_S = 60.0


class Filled(torch.nn.Module):
    """Every element of every tensor is the number of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(width)) for width in WIDTHS)

    def fill(self, step: int) -> None:
        with torch.no_grad():
            for weight in self.weights:
                weight.fill_(step)


def save_forever(attempt: Attempt, rank: int, port: int) -> None:
    """One rank: a step is to fill the tensors; each is saved."""
    torch.set_num_threads(1)
    if attempt.world_size > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=attempt.world_size)
    group = Group(rank, attempt.world_size)
    keeper = Keeper(attempt, JournalWriter(attempt.path, f"rank-{rank}"), group, CPU)
    model = Filled()
    step = 0
    while True:
        step += 1
        model.fill(step)
        keeper.save(Position(0, 0, step, step), [model], FACTS)


def check(attempt: Attempt) -> dict[str, Any]:
    """What the next attempt finds: the committed and the loaded step, and whether every element is of that step."""
    committed = [dict(entry.body) for entry in journal_of(attempt, "checkpoint")]
    if not committed:
        return {"committed": 0, "loaded": 0, "whole": True, "told": []}
    known = {**committed[-1], "previous": committed[-4:-1][::-1]}
    shutil.rmtree(attempt.path.parent / "2", ignore_errors=True)
    after = replace(attempt_in(Path(attempt.state), token=2, checkpoint=known), spec=attempt.spec)
    model = Filled()
    position = Keeper(after, JournalWriter(after.path, "rank-0"), Group(0, 1), CPU).restore(0, [model], FACTS)
    assert position is not None
    whole = all(bool((weight == position.step).all()) for weight in model.weights)
    told = [entry.body["text"] for entry in journal_of(after, "message")]
    return {"committed": known["step"], "loaded": position.step, "whole": whole, "told": told}


def forked(work: Callable[[], Any], log: Path) -> int:
    """Start `work` in a process of its own."""
    pid = os.fork()
    if pid == 0:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        try:
            work()
        finally:
            os._exit(0)
    return pid


def one_kill(folder: Path, source: random.Random, number: int) -> dict[str, Any]:
    """Start savers, kill, look."""
    world_size = 1 + number % 2
    tiers = source.choice((["disk"], ["memory", "disk"]))
    attempt = attempt_in(folder, world_size=world_size, checkpoint_every_s=0)
    attempt = replace(attempt, spec={**attempt.spec, "checkpoint": {"every_s": 0, "tiers": tiers}})
    port = source.randrange(20_000, 32_000)
    ranks = [forked(lambda rank=rank: save_forever(attempt, rank, port), folder / "log") for rank in range(world_size)]
    journal = attempt.path / "journal" / "rank-0.jsonl"
    deadline_s = time.monotonic() + LIMIT_S
    while not (journal.exists() and b"checkpoint" in journal.read_bytes()) and time.monotonic() < deadline_s:
        time.sleep(0.002)
    time.sleep(source.uniform(0, 0.06))
    first = source.randrange(world_size)
    os.kill(ranks[first], signal.SIGKILL)
    if source.random() < 0.5:  # the other rank may do what it does when a peer is lost
        time.sleep(source.uniform(0, 0.02))
    for pid in ranks:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    result = folder / "result.json"
    os.waitpid(forked(lambda: result.write_text(json.dumps(check(attempt))), folder / "log"), 0)
    found = json.loads(result.read_text()) if result.exists() else {"committed": -1, "loaded": 0, "whole": False, "told": []}
    return {**found, "number": number, "log": (folder / "log").read_text()[-2000:] if (folder / "log").exists() else ""}


def main(folder: Path, kills: int, seed: int) -> None:
    source = random.Random(seed)
    found = []
    for number in range(kills):
        state = folder / str(number)
        state.mkdir()
        found.append(one_kill(state, source, number))
        shutil.rmtree(shared_memory(state).root, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)
    bad = [each for each in found if not each["whole"] or each["loaded"] != each["committed"] or each["told"]]
    print(json.dumps({"kills": len(found), "corrupt": sum(not each["whole"] for each in found),
                      "lost": sum(each["loaded"] != each["committed"] for each in found),
                      "committed": sum(each["committed"] > 0 for each in found), "bad": bad[:3]}))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
