"""A Slurm cluster on one host: its own munged, slurmctld, and three slurmd named n1 to n3, with pretended GPUs.

Every daemon listens on loopback only: slurmd binds what its host name resolves to, so each gets namespaces of its own, in
which the host is called `localhost`.

Does not know: accounting (there is no slurmdbd: ask scontrol, not sacct).
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from servers.testbed.process import (
    LOOPBACK,
    NeedsRoot,
    accepts,
    free_ports,
    machine_of_its_own,
    output_of,
    program,
    running,
    scratch,
    wait_until,
)

NODES = ("n1", "n2", "n3")
GPUS_PER_NODE = 4

CONFIG = """
ClusterName=testbed
SlurmctldHost={host}({loopback})
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=200000
KillWait=2
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@dataclass(frozen=True)
class Slurm:
    """`env`: what a client command (sbatch, squeue, ...) needs in its environment."""

    directory: Path
    env: Mapping[str, str]

    def client(self, command: str, *arguments: str) -> str:
        """What one of Slurm's commands prints; raises `AssertionError` when it fails."""
        return output_of([program("slurm", command), *arguments], self.env)

    def idle(self) -> int:
        """How many nodes are idle."""
        return self.client("sinfo", "-h", "-N", "-o", "%t").split().count("idle")


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Three idle nodes in partition `main`: 4 CPUs, 4,000 MB and `gpu:fake:4` each. Needs root (slurmd changes users)."""
    munged, control, daemon = (program("slurm", name) for name in ("munged", "slurmctld", "slurmd"))
    for name in ("sbatch", "srun", "sinfo"):
        program("slurm", name)
    if os.geteuid() != 0:
        raise NeedsRoot("slurm")
    control_port, *ports = free_ports(1 + len(NODES))
    with scratch("slurm") as directory, ExitStack() as servers:
        config = _configure(directory, control_port, ports)
        cluster = Slurm(directory, {"SLURM_CONF": str(config)})
        env = {**cluster.env, "HOME": str(directory)}
        key = directory / "munge.key"
        servers.enter_context(running(_munge(munged, directory), directory, (directory / "munge.socket").exists, env=env))
        key.unlink()  # munged has read it
        argv = [control, "-D", "-f", str(config)]
        servers.enter_context(running(argv, directory, lambda: accepts(control_port), env=env))
        for node, port in zip(NODES, ports, strict=True):
            argv = _node(daemon, node, config)
            up = partial(accepts, port)
            servers.enter_context(running(argv, directory, up, env=env, stop=signal.SIGKILL))
        wait_until(lambda: cluster.idle() == len(NODES), "three idle nodes")
        yield cluster


def _configure(directory: Path, control_port: int, ports: list[int]) -> Path:
    for name in ("state", *NODES):
        (directory / name).mkdir()
    for number in range(GPUS_PER_NODE):  # a copy of /dev/null stands for a GPU: Slurm hands it out and counts it
        os.mknod(directory / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    nodes = "\n".join(
        f"NodeName={node} NodeAddr={LOOPBACK} NodeHostname=localhost Port={port} CPUs=4 RealMemory=4000"
        f" Gres=gpu:fake:{GPUS_PER_NODE} State=UNKNOWN"
        for node, port in zip(NODES, ports, strict=True)
    )
    config = directory / "slurm.conf"
    settings = {"host": socket.gethostname().split(".")[0], "loopback": LOOPBACK, "control": control_port}
    config.write_text(CONFIG.format(**settings, directory=directory, nodes=nodes, names=",".join(NODES)).lstrip())
    (directory / "gres.conf").write_text(f"Name=gpu Type=fake File={directory}/gpu[0-{GPUS_PER_NODE - 1}]\n")
    return config


def _munge(munged: str, directory: Path) -> list[str]:
    key = directory / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = [f"--{kind}-file={directory}/munged.{kind}" for kind in ("pid", "log", "seed")]
    return [munged, "--foreground", "--force", "--num-threads=2", f"--key-file={key}", f"--socket={directory}/munge.socket", *files]


def _node(slurmd: str, node: str, config: Path) -> list[str]:
    """One node: ended by SIGKILL it takes its jobs with it, as a machine that loses power does."""
    daemon = shlex.join([slurmd, "-D", "-N", node, "-f", str(config)])
    return machine_of_its_own(f"hostname localhost && {daemon}", "--uts")
