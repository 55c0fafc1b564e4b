"""No test of this room leaves a process behind; a server is started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.cluster.tree import kill, members
from servers.testbed.kubelet import HollowKubelet, kubelet
from servers.testbed.kubernetes import Kubernetes, kubernetes
from servers.testbed.openssh import OpenSsh, openssh
from servers.testbed.provide import provide
from servers.testbed.slurm import Slurm, slurm


@pytest.fixture(scope="session", name="slurm")
def _slurm() -> Iterator[Slurm]:
    with provide(slurm()) as server:
        yield server


@pytest.fixture(scope="session", name="kubernetes")
def _kubernetes() -> Iterator[Kubernetes]:
    with provide(kubernetes()) as server:
        yield server


@pytest.fixture(scope="session", name="kubelet")
def _kubelet(kubernetes: Kubernetes) -> Iterator[HollowKubelet]:
    with kubelet(kubernetes, "n1") as node:
        yield node


@pytest.fixture(scope="session", name="openssh")
def _openssh() -> Iterator[OpenSsh]:
    with provide(openssh()) as server:
        yield server


@pytest.fixture(autouse=True)
def swept(tmp_path: Path) -> Iterator[None]:
    yield
    for attempt in tmp_path.rglob("attempt.json"):
        while kill(members(str(attempt.parent))):
            pass
