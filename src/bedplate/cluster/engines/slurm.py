"""The Slurm launcher: each attempt is one batch job on one node, whose script becomes the shim.

The project's state has the same paths on the nodes (a shared file system), so journals and outputs are simply there. Slurm never requeues
an attempt: a new attempt goes on from the newest checkpoint, under a new fencing token. A job is submitted once: its name is the attempt's
own, and is looked for before. While the controller does not answer nothing is known, and nothing ends.
Formats of sbatch(1), squeue(1) and scancel(1), Slurm 20.11 and newer.
Does not know: what an attempt does, or why it is started or stopped.
"""

from __future__ import annotations

import getpass
import json
import math
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from bedplate.cluster.remote_paths import with_python
from bedplate.cluster.wish import told, untold, wish
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt, read_attempt
from bedplate.core.digest import digest
from bedplate.core.errors import BedplateError, Unavailable
from bedplate.core.journal import JournalReader, JournalWriter
from bedplate.core.pools_file import DeclaredPool
from bedplate.core.protocols import Liveness, Rendered

JOB_FILE = "slurm.json"
OUTPUT_FILE = "slurm.out"  # not among the logs: whatever writes there is the attempt's own, and slurmstepd is not
WRITER = "engine"
LIMIT_S = 8.0  # for one command: the loop waits for it
ASK_S = 0.5  # between two looks at the queue
AGAIN_S = 5.0  # before a submission is tried again
SPARE_S = 120.0  # from the attempt's own limit to Slurm's
ENDED = frozenset({"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"})
WAITING = ("PENDING", "CONFIGURING")
MEANS: Mapping[str, tuple[str, str]] = {
    "NODE_FAIL": ("node_lost", "Slurm lost the node"),
    "BOOT_FAIL": ("node_lost", "the node did not boot"),
    "PREEMPTED": ("preempted", "Slurm preempted the job"),
    "OUT_OF_MEMORY": ("out_of_memory", "the job took more memory than it asked of Slurm"),
    "TIMEOUT": ("timeout", "the partition's time limit"),
    "DEADLINE": ("timeout", "the job's deadline in Slurm"),
}
KEPT_VARIABLES = "HOME,PATH,USER,LANG"  # of the submitter's environment, in which there may be secrets


class SlurmLauncher:
    """The launcher of one pool. Another instance, in another process, can poll and cancel what this one submitted."""

    name = "slurm"

    def __init__(self, pool: DeclaredPool, folder: Path) -> None:
        """`folder` is that of pools.yaml; nothing in it is needed."""
        self._pool = pool
        self._folder = folder
        self._queue: tuple[float, dict[str, tuple[str, str]] | None] = (-math.inf, None)
        self._tried_s: dict[str, float] = {}

    def render(self, attempt: Attempt) -> Rendered:
        """What would be started on the node. Pure; `script` gives the whole batch script."""
        return Rendered(attempt.shim_argv, dict(attempt.environment), attempt.folder)

    def submit(self, attempt: Attempt) -> dict[str, Any]:
        """Queue the attempt, once; returns its folder and token. What cannot be queued now is tried again by `poll`."""
        (attempt.path / "logs").mkdir(parents=True, exist_ok=True)
        if self._pool.python or not (attempt.path / ATTEMPT_FILE).exists():
            write_json(attempt.path / ATTEMPT_FILE, with_python(attempt, self._pool.python).to_json())
        if job_of(attempt.path) is None:
            self._queue_up(attempt)
        return {"folder": attempt.folder, "token": attempt.token}

    def poll(self, handle: Mapping[str, Any]) -> Liveness:
        """`gone` when Slurm says that the job is over, or has forgotten it; `unknown` when the controller does not answer."""
        folder = Path(handle["folder"])
        with suppress(Unavailable):
            self._pass_on(folder)
        job = job_of(folder)
        if job == "":
            return "gone"
        if job is None:
            if time.monotonic() - self._tried_s.get(handle["folder"], -math.inf) > AGAIN_S:
                self._queue_up(read_attempt(folder))
            return "unknown"
        jobs = self._jobs(ASK_S)
        if jobs is None:
            return "unknown"
        state, node = jobs.get(job, ("", ""))
        if state and state not in ENDED:
            return "alive"
        if state in MEANS and not _has_ended(folder):
            failure, why = MEANS[state]
            lost = {"node": node} if failure == "node_lost" and node else {}
            _note(folder, "ended", status="failed", failure=failure, message=f"{why} (job {job}{f' on {node}' if node else ''})", **lost)
        return "gone"

    def logs(self, attempt: Attempt, rank: int) -> Iterator[str]:
        """The lines that a rank printed so far, in order."""
        path = attempt.log(rank)
        if path.exists():
            with path.open(errors="replace") as file:
                yield from (line.rstrip("\n") for line in file)

    def cancel(self, handle: Mapping[str, Any], how: Literal["stop", "cancel"]) -> None:
        """`stop` sends the notice to the shim, or takes a waiting job out of the queue; `cancel` ends the tree. Harmless when gone.

        What the controller does not hear now `poll` tells it again.
        """
        folder = Path(handle["folder"])
        wish(folder, how)
        with suppress(Unavailable):
            self._pass_on(folder)

    def _pass_on(self, folder: Path) -> None:
        """Tell Slurm what was asked. Raises Unavailable when it does not answer."""
        how, job = untold(folder), job_of(folder)
        if not how:
            return
        jobs = self._jobs(0.0)
        if jobs is None and job:
            raise Unavailable("Slurm does not answer", value=job)
        state = (jobs or {}).get(job or "", ("", ""))[0]
        if how == "stop" and state not in ("", *WAITING, *ENDED):
            _said("scancel", "--batch", "--signal=TERM", str(job))
        else:
            if how == "stop" and (job is None or state in WAITING):
                _note(folder, "ended", status="stopped", failure=None, message="before it was started")
            if job is None:
                write_json(folder / JOB_FILE, {"job": ""})  # it was never queued, and will not be
            elif state not in ("", *ENDED):
                _end(job)
        told(folder, how)

    def _queue_up(self, attempt: Attempt) -> None:
        """Submit, unless a killed loop did; a refusal ends the attempt, silence leaves it for the next time."""
        self._tried_s[attempt.folder] = time.monotonic()
        try:
            found = _said("squeue", "-h", "-t", "all", "-o", "%i", "-u", getpass.getuser(), f"--name={job_name(attempt)}").split()
            job = found[0] if found else _said("sbatch", "--parsable", text=script(attempt, self._pool)).strip().partition(";")[0]
        except Unavailable:
            return
        except BedplateError as error:
            _note(attempt.path, "ended", status="failed", failure="user_error", message=error.one_line())
            job = ""
        write_json(attempt.path / JOB_FILE, {"job": job})
        self._queue = (-math.inf, None)

    def _jobs(self, age_s: float) -> dict[str, tuple[str, str]] | None:
        """State and nodes of this user's jobs, by number, not older than `age_s`; None when the controller does not answer."""
        if time.monotonic() - self._queue[0] > age_s:
            try:
                lines = _said("squeue", "-h", "-t", "all", "-o", "%i|%T|%N", "-u", getpass.getuser()).splitlines()
                rows = [line.split("|") for line in lines]
                self._queue = time.monotonic(), {job: (state, node) for job, state, node in rows}
            except BedplateError:
                self._queue = time.monotonic(), None
        return self._queue[1]


def script(attempt: Attempt, pool: DeclaredPool) -> str:
    """The batch script of an attempt. Pure. What it asks for is the attempt's, in all: one node has to have it."""
    devices = len(attempt.accelerators)
    asked = {
        "job-name": job_name(attempt),
        "partition": pool.partition,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(max(1, math.ceil(attempt.asks.get("cpus", 1)))),
        "mem": f"{math.ceil(attempt.asks['memory_bytes'] / 2**20)}M" if attempt.asks.get("memory_bytes") else "",
        "gres": f"gpu:{devices}" if devices else "",
        "time": str(math.ceil((attempt.max_time_s + SPARE_S) / 60)) if attempt.max_time_s else "",
        "exclude": ",".join(attempt.excluded),
        "output": f"{attempt.folder}/{OUTPUT_FILE}",
        "open-mode": "append",
        "export": KEPT_VARIABLES,
    }
    options = [f"--{name}={shlex.quote(value)}" for name, value in asked.items() if value]
    lines = [f"#SBATCH {option}" for option in (*options, "--no-requeue", *pool.options)]
    told = with_python(attempt, pool.python)
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(told.shim_argv)}", ""])


def job_name(attempt: Attempt) -> str:
    """The name by which an attempt's job is found again, whoever submitted it."""
    return f"bedplate-{attempt.run}-{attempt.token}-{digest([attempt.folder])[:8]}"


def job_of(folder: Path) -> str | None:
    """The number of the attempt's job; None before it was queued, empty when it never will be."""
    with suppress(FileNotFoundError):
        return str(json.loads((folder / JOB_FILE).read_text())["job"])
    return None


def _said(*argv: str, text: str = "") -> str:
    """What a command of Slurm printed. Raises Unavailable when it is missing or nobody answers, and BedplateError when it refuses."""
    fix = "run where Slurm's commands are, and see `sinfo`"
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except FileNotFoundError as error:
        raise Unavailable("a command of Slurm is missing", value=argv[0], fix=fix) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable("Slurm does not answer", value=argv[0], fix=fix) from error
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.split())
    if "Unable to contact" in said or "Socket timed out" in said or "Connection refused" in said:
        raise Unavailable("Slurm does not answer", value=said, fix=fix)
    raise BedplateError("Slurm refused", value=said or argv[0], fix="mend the pool in pools.yaml, or what the job asks for")


def _end(job: str) -> None:
    """Kill the shim first, so that it says nothing, then what is left. Raises Unavailable when nobody answers."""
    for words in (("--batch", "--signal=KILL"), ()):
        try:
            _said("scancel", *words, job)
        except Unavailable:
            raise
        except BedplateError:
            continue  # it has ended meanwhile


def _has_ended(folder: Path) -> bool:
    return any(entry.kind == "ended" for entry in JournalReader(folder).read())


def _note(folder: Path, kind: str, **body: Any) -> None:
    journal = JournalWriter(folder, WRITER)
    journal.write(kind, **body)
    journal.sync()
    journal.close()
