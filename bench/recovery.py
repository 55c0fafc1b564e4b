"""SIGKILL of one of four workers to the next step that all have finished, beside torchrun's restart of the same script.

Three ways: replaced in place from the host that has torch loaded (the warm spare, whose memory is printed), a new attempt from the
checkpoint with nothing warm, and torchrun (--max-restarts, the script has its own checkpoint, written every step).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.table import Row

ROUNDS = 5
WORKERS = 4
LIMIT_S = 45.0
TRIALS = 3

PROJECT = """
project: recovery
datasets:
  rows: {source: rows.csv, key: [id], known_at: at, backfill: trusted, columns: {id: int, at: timestamp, x: float, y: float}}
jobs:
  fit:
    function: fit.py:fit
    inputs: {spine: rows, columns: [x], label: rows.y}
    params: {salt: 0, folder: ""}
    resources: {workers: 4}
    recovery: RECOVERY
    checkpoint: 1s
"""

FIT = '''
import os
import time

import torch
from torch import nn


def net(width):
    return nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 1))


def loss_of(model, numeric, label):
    return torch.mean((model(numeric).squeeze(1) - label) ** 2)


def finished(folder, rank, step):
    with open(os.path.join(folder, f"rank-{rank}"), "a") as file:
        file.write(f"{os.getpid()} {step} {time.time()!r}\\n")
    time.sleep(0.01)


def fit(run, salt=0, folder=""):
    model = run.parallelize(lambda: net(run.signature.numeric_width))
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in run.batches("train", epochs=100000, state=[model, optimizer], batch_size=64):
        loss = run.backward(lambda m, b: loss_of(m, b["numeric"], b["label"]), batch)
        run.update(optimizer)
        run.log(loss=loss)
        finished(folder, run.rank, run._keeper.steps)


def main():
    """The same under torchrun: the peer."""
    import sys

    from torch.nn.parallel import DistributedDataParallel

    folder = sys.argv[1]
    torch.distributed.init_process_group("gloo")
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    numeric, label = torch.randn(2000, 1), torch.randn(2000)
    model = DistributedDataParallel(net(1))
    optimizer = torch.optim.AdamW(model.parameters())
    step, saved = 0, os.path.join(folder, "checkpoint.pt")
    if os.path.exists(saved):
        known = torch.load(saved, weights_only=True)
        model.module.load_state_dict(known["model"])
        optimizer.load_state_dict(known["optimizer"])
        step = known["step"]
    written = time.monotonic()
    while True:
        start = step * 64 % 1900 + rank * (64 // size)
        loss_of(model, numeric[start : start + 64 // size], label[start : start + 64 // size]).backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if rank == 0 and time.monotonic() - written >= 1.0:
            torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, saved + ".part")
            os.replace(saved + ".part", saved)
            written = time.monotonic()
        finished(folder, rank, step)


if __name__ == "__main__":
    main()
'''


def rows() -> list[Row]:
    """Medians over interleaved rounds."""
    base = Path(tempfile.mkdtemp(prefix="bedplate-recovery-"))
    times: dict[str, list[float]] = {"in_place": [], "attempt": [], "torchrun": []}
    spare: list[float] = []
    try:
        for name in ("in_place", "attempt"):
            _project(base / name, name)
        for number in range(ROUNDS):
            for name in times:
                folder = base / f"{name}-{number}"
                folder.mkdir()
                times[name].append(_measured_s(base / name, folder, name, number, spare))
    finally:
        shutil.rmtree(base)
    peer = statistics.median(times["torchrun"])
    print(f"the warm spare (the host with torch loaded) holds {statistics.median(spare):.0f} MB of its own", file=sys.stderr)
    return [
        _row("SIGKILL of one of 4 workers to the next step, warm spare", times["in_place"], peer, 0.15),
        _row("the same with nothing warm (a new attempt)", times["attempt"], peer, 0.7),
    ]


def _row(what: str, times: Sequence[float], peer: float, limit: float) -> Row:
    return Row(what, statistics.median(times), "s", f"{min(times):.3g} to {max(times):.3g}", peer, "torchrun", limit)


def _project(folder: Path, recovery: str) -> None:
    folder.mkdir()
    (folder / "bedplate.yaml").write_text(PROJECT.replace("RECOVERY", recovery))
    (folder / "fit.py").write_text(FIT)
    lines = "\n".join(f"{n},2024-01-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z,{n % 17},{n % 5}" for n in range(2000))
    (folder / "rows.csv").write_text("id,at,x,y\n" + lines + "\n")
    command = [sys.executable, "-m", "bedplate.cli.main", "run", "fit.inputs", "-C", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def _measured_s(project: Path, folder: Path, name: str, number: int, spare: list[float]) -> float:
    """One time. Where torchrun does not come back (rank 0 of its next group is refused by an address that is not there any more, and it
    restarts until it hangs) the limit stands for its time, which is in its favor, and it is said."""
    for trial in range(1 if name == "torchrun" else TRIALS):
        try:
            place = folder / str(trial)
            place.mkdir()
            return _recovery_s(project, place, name, number * TRIALS + trial, spare)
        except TimeoutError:
            print(f"{name} did not come back within {LIMIT_S:g} s", file=sys.stderr)
    if name == "torchrun":
        return LIMIT_S
    raise TimeoutError(f"{name} did not come back {TRIALS} times")


def _recovery_s(project: Path, folder: Path, name: str, number: int, spare: list[float]) -> float:
    """Start, wait for a second of steps, kill rank 2, and take the time to the first step that began after it on every rank."""
    if name == "torchrun":
        (folder / "fit.py").write_text(FIT)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}", "--max-restarts=20"]
        command += ["fit.py", str(folder)]
    else:
        command = [sys.executable, "-m", "bedplate.cli.main", "run", "fit", "-C", str(project), "--set", f"salt={number + 1}"]
        command += ["--set", f"folder={json.dumps(str(folder))}"]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        _wait(lambda: all(len(_steps(folder, rank)) > 30 for rank in range(WORKERS)))
        time.sleep(1.5)
        victim = _steps(folder, 2)[-1][0]
        if name == "in_place":
            spare.append(_own_mb(_parent(victim)))
        killed_at_s = time.time()
        os.kill(victim, signal.SIGKILL)
        _wait(lambda: _steps(folder, 2)[-1][0] != victim)
        replacement = next(at_s for pid, _, at_s in _steps(folder, 2) if pid not in {victim} and at_s > killed_at_s)
        _wait(lambda: all(_steps(folder, rank)[-1][2] >= replacement for rank in range(WORKERS)))
        after = [next(at_s for _, _, at_s in _steps(folder, rank) if at_s >= replacement - 0.005) for rank in range(WORKERS)]
        return max(after) - killed_at_s
    finally:
        _end(process)
        if name != "torchrun":
            subprocess.run([sys.executable, "-m", "bedplate.cli.main", "down", "-C", str(project)], capture_output=True, timeout=60)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command, and all that it started."""
    tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in tree:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _steps(folder: Path, rank: int) -> list[tuple[int, int, float]]:
    path = folder / f"rank-{rank}"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(pid), int(step), float(at_s)) for pid, step, at_s in (line.split() for line in lines)]


def _wait(condition: object) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():  # type: ignore[operator] # a callable
        if time.monotonic() > deadline_s:
            raise TimeoutError("it did not happen in time")
        time.sleep(0.002)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _own_mb(pid: int) -> float:
    """Memory of a process that no other would have without it, in MB: its unique set and its share of what it shares."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) / 1024
