"""The Slurm cluster schedules, runs, hands out GPUs and tells how a job ended."""

from __future__ import annotations

from pathlib import Path

from servers.testbed.process import wait_until
from servers.testbed.slurm import Slurm


def submit(slurm: Slurm, script: Path, *options: str) -> str:
    output = script.with_suffix(".out")
    return slurm.client("sbatch", "--parsable", f"--output={output}", *options, str(script)).strip()


def state(slurm: Slurm, job: str) -> str:
    shown = slurm.client("scontrol", "show", "job", job)
    return next(word.removeprefix("JobState=") for word in shown.split() if word.startswith("JobState="))


def test_three_nodes_are_idle(slurm: Slurm) -> None:
    wait_until(lambda: slurm.idle() == 3, "three idle nodes")
    listed = slurm.client("sinfo", "-h", "-N", "-o", "%N %t %c %G").splitlines()
    assert listed == [f"n{number} idle 4 gpu:fake:4" for number in (1, 2, 3)]


def test_a_batch_job_runs_a_task_on_every_node(slurm: Slurm, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nsrun sh -c 'echo \"rank $SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME\"'\n")
    job = submit(slurm, script, "--nodes=3", "--ntasks-per-node=1")
    wait_until(lambda: state(slurm, job) == "COMPLETED", "the job to complete")
    lines = sorted(script.with_suffix(".out").read_text().splitlines())
    assert lines == [f"rank {rank} of 3 on n{rank + 1}" for rank in range(3)]


def test_a_failed_job_tells_its_exit_status(slurm: Slurm, tmp_path: Path) -> None:
    script = tmp_path / "fails.sh"
    script.write_text("#!/bin/sh\nexit 7\n")
    job = submit(slurm, script)
    wait_until(lambda: state(slurm, job) == "FAILED", "the job to fail")
    assert "ExitCode=7:0" in slurm.client("scontrol", "show", "job", job)


def test_gpus_are_handed_out_and_a_job_that_asks_too_much_waits(slurm: Slurm, tmp_path: Path) -> None:
    shown = slurm.client("srun", "--gres=gpu:2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert len(set(shown.strip().split(","))) == 2
    script = tmp_path / "sleeps.sh"
    script.write_text("#!/bin/sh\nsleep 300\n")
    holder = submit(slurm, script, "--nodes=3", "--gres=gpu:4")
    wait_until(lambda: state(slurm, holder) == "RUNNING", "the holder to run")
    waiting = submit(slurm, script, "--gres=gpu:1")
    wait_until(lambda: "Reason=Resources" in slurm.client("scontrol", "show", "job", waiting), "the reason")
    assert state(slurm, waiting) == "PENDING"
    slurm.client("scancel", waiting, holder)
    wait_until(lambda: state(slurm, holder) == "CANCELLED", "the holder to be cancelled")
