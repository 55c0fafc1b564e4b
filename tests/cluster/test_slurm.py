"""The Slurm launcher beyond what every launcher promises: the script, what Slurm itself decides, and a controller that is silent."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate.cluster.engines.slurm import JOB_FILE, SlurmLauncher, job_of, script
from bedplate.core.attempt import Attempt
from bedplate.core.errors import SpecError
from bedplate.core.pools_file import Capacity, DeclaredPool, read_pools
from cluster.rig import FOREVER, attempt_in, ended, journal_of, printed, wait_until
from servers.testbed.slurm import Slurm

POOL = DeclaredPool(engine="slurm", partition="main", capacity=Capacity(machines=3))

SCRIPT = """#!/bin/sh
#SBATCH --job-name=bedplate-fit-1-2-{digest}
#SBATCH --partition=main
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=3
#SBATCH --mem=3815M
#SBATCH --gres=gpu:2
#SBATCH --time=12
#SBATCH --exclude=n7,n9
#SBATCH --output='{folder}/slurm.out'
#SBATCH --open-mode=append
#SBATCH --export=HOME,PATH,USER,LANG
#SBATCH --no-requeue
#SBATCH --account=lab
#SBATCH --qos=long
exec /opt/python -m bedplate.flow.shim '{folder}'
"""


@pytest.fixture
def cluster(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """The test's commands of Slurm go to it."""
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    wait_until(lambda: slurm.idle() == 3)
    return slurm


def ends_of(attempt: Attempt) -> list[tuple[str, str | None]]:
    return [(entry.body["status"], entry.body["failure"]) for entry in journal_of(attempt) if entry.kind == "ended"]


def test_a_script_asks_for_all_that_the_attempt_needs(tmp_path: Path) -> None:
    attempt = attempt_in(
        tmp_path / "a b",
        token=2,
        accelerators=(0, 1),
        asks={"cpus": 2.5, "memory_bytes": 4e9},
        max_time_s=600.0,
        excluded=("n7", "n9"),
    )
    attempt = replace(attempt, shim_argv=(sys.executable, "-m", "bedplate.flow.shim", attempt.folder))
    made = script(attempt, POOL.model_copy(update={"python": "/opt/python", "options": ("--account=lab", "--qos=long")}))
    digest = made.partition("fit-1-2-")[2].partition("\n")[0]
    assert made == SCRIPT.format(folder=attempt.folder, digest=digest)
    assert script(replace(attempt, folder=f"{attempt.folder}0"), POOL).partition("fit-1-2-")[2][:8] != digest


@pytest.mark.parametrize("option", ["--wrap=rm -r x", "account=lab", "--x=1\n#SBATCH --y", "; true"])
def test_an_option_that_is_none_is_refused(tmp_path: Path, option: str) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text(f"pools:\n  big: {{engine: slurm, partition: main, capacity: {{machines: 1}}, options: [{option!r}]}}\n")
    with pytest.raises(SpecError, match=r"options"):
        read_pools(path)


def test_what_slurm_refuses_ends_the_attempt_with_its_words(cluster: Slurm, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path)
    launcher = SlurmLauncher(POOL.model_copy(update={"partition": "nowhere"}), tmp_path)
    handle = launcher.submit(attempt)
    assert launcher.poll(handle) == "gone"
    (end,) = [entry.body for entry in journal_of(attempt) if entry.kind == "ended"]
    assert (end["status"], end["failure"]) == ("failed", "user_error")
    assert "invalid partition" in end["message"]


def test_a_job_that_a_killed_loop_submitted_is_found_again(cluster: Slurm, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    first = SlurmLauncher(POOL, tmp_path)
    handle = first.submit(attempt)
    job = job_of(attempt.path)
    (attempt.path / JOB_FILE).unlink()  # it was killed before it wrote the number down
    second = SlurmLauncher(POOL, tmp_path)
    assert second.submit(attempt) == handle
    assert job_of(attempt.path) == job
    second.cancel(handle, "cancel")
    wait_until(lambda: second.poll(handle) == "gone")


def test_a_job_that_waits_is_taken_out_of_the_queue(cluster: Slurm, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    launcher = SlurmLauncher(POOL.model_copy(update={"options": ("--hold",)}), tmp_path)
    handle = launcher.submit(attempt)
    assert launcher.poll(handle) == "alive"
    launcher.cancel(handle, "stop")
    wait_until(lambda: launcher.poll(handle) == "gone")
    assert ends_of(attempt) == [("stopped", None)]
    assert printed(attempt) == []


def test_a_silent_controller_kills_nothing(cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    launcher = SlurmLauncher(POOL, tmp_path)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt))
    with monkeypatch.context() as silent:
        silent.setenv("PATH", "/nowhere")
        lonely = SlurmLauncher(POOL, tmp_path)
        assert lonely.poll(handle) == "unknown"
        unqueued = attempt_in(tmp_path, "print('late')", token=2)
        late = lonely.submit(unqueued)
        assert lonely.poll(late) == "unknown"
        assert ends_of(unqueued) == []
    assert launcher.poll(handle) == "alive"
    launcher.cancel(handle, "stop")
    again = SlurmLauncher(POOL, tmp_path)
    wait_until(lambda: again.poll(late) == "gone" and again.poll(handle) == "gone")
    assert ended(attempt)["status"] == "stopped"
    assert printed(unqueued) == ["late"]


def test_gpus_are_those_that_slurm_hands_out(cluster: Slurm, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "import os; print(len(os.environ['CUDA_VISIBLE_DEVICES'].split(',')))", accelerators=(0, 1))
    launcher = SlurmLauncher(POOL, tmp_path)
    handle = launcher.submit(attempt)
    wait_until(lambda: launcher.poll(handle) == "gone")
    assert printed(attempt) == ["2"]


def test_a_job_that_slurm_or_somebody_else_ends_is_told_first(cluster: Slurm, tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    launcher = SlurmLauncher(POOL, tmp_path)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt))
    cluster.client("scancel", str(job_of(attempt.path)))
    wait_until(lambda: launcher.poll(handle) == "gone")
    assert ends_of(attempt) == [("stopped", None)]  # which nobody of ours asked for: the loop takes it for a preemption


def test_a_stop_that_the_controller_could_not_hear_is_told_again(cluster: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = attempt_in(tmp_path, FOREVER)
    launcher = SlurmLauncher(POOL, tmp_path)
    handle = launcher.submit(attempt)
    wait_until(lambda: printed(attempt))
    with monkeypatch.context() as silent:
        silent.setenv("PATH", "/nowhere")
        launcher.cancel(handle, "stop")
        assert launcher.poll(handle) == "unknown"
    wait_until(lambda: launcher.poll(handle) == "gone")
    assert ended(attempt)["status"] == "stopped"
