"""`--on POOL` sends jobs there, and what they make is the same as here: a real project on hosts behind a real sshd, and in a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.errors import NotFound, Unavailable
from bedplate.core.journal import JournalReader
from bedplate.core.record import Records
from bedplate.core.settings import child_environment
from bedplate.flow.planner import plan
from bedplate.flow.pooling import check_pool
from bedplate.flow.workspace import Workspace, open_workspace
from cluster.rig import wait_until
from crash.small_project import write_small_project
from flow.world import World
from servers.testbed.kubelet import kubelet
from servers.testbed.kubernetes import Kubernetes, kubernetes
from servers.testbed.openssh import OpenSsh, openssh
from servers.testbed.provide import provide
from servers.testbed.slurm import Slurm, slurm

COMMAND = """
  hello:
    command: "python -c 'import say; say.hello()' && echo at $PWD"
    code: [say.py]
    outputs: [made/x.txt]
"""
SAY = "from pathlib import Path\n\ndef hello():\n    Path('made').mkdir(exist_ok=True)\n    Path('made/x.txt').write_text('hi')\n"
POOLS = """
pools:
  here: {{engine: local}}
  lab: {{engine: ssh, hosts: [a, b], python: {python}, folder: {folder}, ssh_config: {config}, capacity: {{cores: 4, memory_gb: 8}}}}
  pods: {{engine: kubernetes, context: testbed, image: none, claim: project, mount: /tmp, python: {python}, capacity: {{cores: 4}}}}
  queue: {{engine: slurm, partition: main, capacity: {{machines: 3, cores: 4, memory_gb: 3}}}}
  cluster: {{engine: ray, address: "ray://x", capacity: {{machines: 1}}}}
"""


@pytest.fixture(scope="module")
def sshd() -> Iterator[OpenSsh]:
    with provide(openssh()) as server:
        yield server


@pytest.fixture(scope="module")
def queue() -> Iterator[Slurm]:
    with provide(slurm()) as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[Kubernetes]:
    with provide(kubernetes()) as server, kubelet(server, "n1"):
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sshd: OpenSsh) -> Path:
    """The small project, a command more, and pools."""
    folder = write_small_project(tmp_path_factory.mktemp("elsewhere") / "small")
    declared = (folder / "bedplate.yaml").read_text().replace("jobs:\n", f"jobs:{COMMAND}", 1).replace("{workers: 2}", "{workers: 1}")
    (folder / "bedplate.yaml").write_text(declared)
    (folder / "say.py").write_text(SAY)
    values = {"python": sys.executable, "folder": sshd.directory / "pool", "config": sshd.config}
    (folder / "pools.yaml").write_text(POOLS.format(**values))
    return folder


def bedplate(folder: Path, *words: str, **environment: str) -> str:
    """What the command prints; it has to succeed."""
    argv = [sys.executable, "-m", "bedplate.cli.main", *words]
    home = {"BEDPLATE_HOME": str(folder.parent / "home"), **environment}
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, env=child_environment(home), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def records(folder: Path) -> Records:
    with open_workspace(folder) as workspace:
        return workspace.records


def test_a_training_that_is_killed_on_a_host_ends_with_the_same_weights_as_here(project: Path) -> None:
    longer = ("--set", "fit.epochs=20")
    bedplate(project, "run", "fit", *longer)
    background = threading.Thread(target=bedplate, args=(project, "run", "fit", *longer, "--on", "lab", "--force", "fit"))
    background.start()
    attempt = project / ".bedplate" / "runs" / "fit-2" / "1"
    wait_until(lambda: list((attempt / "checkpoints").glob("*/manifest.json")))
    (started,) = [entry for entry in JournalReader(attempt).read() if entry.kind == "started"]
    os.kill(started.body["identity"]["pid"], signal.SIGKILL)
    background.join(120)
    here, there = records(project).of_step("fit")
    assert [run.made["placement"]["pool"] for run in (here, there)] == ["here", "lab"]
    assert [attempt.engine for attempt in there.attempts] == ["ssh", "ssh"]
    assert there.outputs == here.outputs  # equal content is the version that is there already
    assert there.tags["host"] in ("a", "b")
    second = JournalReader(project / ".bedplate" / "runs" / "fit-2" / "2").read()
    assert [entry.body["identity"]["token"] for entry in second if entry.kind == "started"] == [2]
    assert there.state.began_at > 0  # it went on from what had come home


def test_a_command_runs_on_a_host_with_its_code_and_what_it_made_is_here(project: Path, sshd: OpenSsh) -> None:
    bedplate(project, "run", "hello", "--on", "lab")
    assert (project / "made" / "x.txt").read_text() == "hi"
    said = bedplate(project, "logs", "hello-1")
    assert f"at {sshd.directory}/pool/projects/small-" in said


def test_the_same_command_runs_in_a_queue(project: Path, queue: Slurm) -> None:
    bedplate(project, "run", "hello", "--on", "queue", "--force", "hello", SLURM_CONF=queue.env["SLURM_CONF"])
    run = records(project).of_step("hello")[-1]
    assert (run.status, run.attempts[-1].engine) == ("succeeded", "slurm")
    assert f"at {project}" in bedplate(project, "logs", run.id)


def test_the_same_command_runs_in_a_pod(project: Path, cluster: Kubernetes) -> None:
    bedplate(project, "run", "hello", "--on", "pods", "--force", "hello", KUBECONFIG=str(cluster.kubeconfig))
    run = records(project).of_step("hello")[-1]
    assert (run.status, run.attempts[-1].engine) == ("succeeded", "kubernetes")
    assert f"at {project}" in bedplate(project, "logs", run.id)


def test_only_jobs_travel(world: World) -> None:
    (world.folder / "pools.yaml").write_text(
        "pools: {here: {engine: local}, lab: {engine: ssh, hosts: [a], capacity: {cores: 8, memory_gb: 64}}}\n"
    )
    placed = {planned.step.name: planned.placement for planned in plan(world.workspace, on="lab").steps}
    there = {name for name, placement in placed.items() if placement is not None and placement.pool == "lab"}
    assert there == {"make", "other", "fit"}
    assert {placement.pool for name, placement in placed.items() if placement is not None and name not in there} == {"here"}


def test_a_pool_that_is_not_there_is_refused_before_anything_is_launched(project: Path) -> None:
    with open_workspace(project) as workspace:
        _refused(workspace, "labb", NotFound, "did you mean 'lab'")
        _refused(workspace, "cluster", Unavailable, "the engine ray is not there yet")
        for name in ("here", "lab", "queue"):
            check_pool(workspace, name)


def _refused(workspace: Workspace, name: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        check_pool(workspace, name)
