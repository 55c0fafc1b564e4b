"""From `bedplate run --on POOL` to the first line of a command job: on this machine, on a host over ssh, and in Slurm beside a bare sbatch.

The host is this machine behind an sshd, the cluster three slurmd on it. Servers are those of the test bed; a missing one has no row.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.table import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.testbed.openssh import OpenSsh, openssh
from servers.testbed.process import Missing
from servers.testbed.slurm import Slurm, slurm

Peer = tuple[str, Callable[[], object]]

PAIRS = 5
WAIT_S = 60.0
PROJECT = """
project: engines
jobs:
  hello: {command: "date +%s.%N > $MARKS/part && mv $MARKS/part $MARKS/mark", params: {salt: 0}, resources: {cpus: 0.1, memory_gb: 0.1}}
"""


def rows() -> list[Row]:
    """Medians over interleaved pairs."""
    with tempfile.TemporaryDirectory(prefix="bedplate-engines-") as scratch, ExitStack() as servers:
        folder = Path(scratch)
        (folder / "bedplate.yaml").write_text(PROJECT.replace("$MARKS", scratch))
        made = [_row(folder, "here", "on this machine", 0.5, {"engine": "local"}, None)]
        for name, enter, build in (("host", openssh, _ssh), ("queue", slurm, _slurm)):
            try:
                made.append(build(folder, name, servers.enter_context(enter())))  # type: ignore[operator] # each with its own server
            except Missing as missing:
                print(f"engines: {missing}", file=sys.stderr)
        return made


def _ssh(folder: Path, name: str, server: OpenSsh) -> Row:
    declared = {"engine": "ssh", "hosts": ["a"], "python": sys.executable, "folder": str(server.directory / "pool")}
    bare = ["ssh", "-F", str(server.config), "a", f"date +%s.%N > {folder}/part && mv {folder}/part {folder}/mark"]
    pool = {**declared, "ssh_config": str(server.config), "capacity": {"cores": 4, "memory_gb": 4}}
    return _row(folder, name, "on a host over ssh", None, pool, ("a bare ssh", lambda: subprocess.run(bare, check=True)))


def _slurm(folder: Path, name: str, cluster: Slurm) -> Row:
    os.environ.update(cluster.env)
    script = f"#!/bin/sh\ndate +%s.%N > {folder}/part && mv {folder}/part {folder}/mark\n"

    def bare() -> None:
        subprocess.run(["sbatch", "--output=/dev/null"], input=script.encode(), check=True, capture_output=True)
        _waited(folder / "mark")

    pool = {"engine": "slurm", "partition": "main", "capacity": {"cores": 4, "memory_gb": 3}}
    return _row(folder, name, "in a Slurm queue", 1.2, pool, ("sbatch", bare))


def _row(folder: Path, name: str, where: str, limit: float | None, pool: Mapping[str, object], peer: Peer | None) -> Row:
    (folder / "pools.yaml").write_text(json.dumps({"pools": {"own": {"engine": "local"}, **({name: pool} if name != "here" else {})}}))
    target = "own" if name == "here" else name
    ours, peers = [], []
    for pair in range(PAIRS + 1):  # the first brings our package to a host, and is not counted
        command = [sys.executable, "-m", "bedplate.cli.main", "run", "hello", "--on", target, "--set", f"hello.salt={name}{pair}"]
        ours.append(_timed(folder, lambda command=command: subprocess.run(command, cwd=folder, check=True, capture_output=True)))
        if peer is not None:
            peers.append(_timed(folder, peer[1]))
    ours, peers = ours[1:], peers[1:]
    spread = f"{min(ours):.3g} to {max(ours):.3g}"
    what = f"command to first line of a job, {where}"
    return Row(what, statistics.median(ours), "s", spread, statistics.median(peers) if peers else None, peer[0] if peer else "", limit)


def _timed(folder: Path, work: Callable[[], object]) -> float:
    mark = folder / "mark"
    mark.unlink(missing_ok=True)
    started_s = time.time()
    work()
    return float(mark.read_text()) - started_s


def _waited(path: Path) -> None:
    limit_s = time.monotonic() + WAIT_S
    while not path.exists() and time.monotonic() < limit_s:
        time.sleep(0.01)
