"""One fixture per server of the test bed, started when the first test asks for it and ended with the session.

Another folder gets the same with two lines: a fixture of its own around `provide(...)`, as below.
Does not know: what tests do with a server.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.testbed import databases, prometheus
from servers.testbed.docker import Docker, docker, registry
from servers.testbed.kafka import Kafka, kafka
from servers.testbed.kubernetes import Kubernetes, kubernetes
from servers.testbed.openbao import OpenBao, openbao
from servers.testbed.provide import provide
from servers.testbed.s3 import S3, s3
from servers.testbed.slurm import Slurm, slurm


@pytest.fixture(scope="session", name="kafka")
def _kafka() -> Iterator[Kafka]:
    with provide(kafka()) as server:
        yield server


@pytest.fixture(scope="session", name="s3")
def _s3() -> Iterator[S3]:
    with provide(s3()) as server:
        yield server


@pytest.fixture(scope="session", name="openbao")
def _openbao() -> Iterator[OpenBao]:
    with provide(openbao()) as server:
        yield server


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Iterator[databases.Postgres]:
    with provide(databases.postgres()) as server:
        yield server


@pytest.fixture(scope="session", name="redis")
def _redis() -> Iterator[databases.Redis]:
    with provide(databases.redis()) as server:
        yield server


@pytest.fixture(scope="session", name="slurm")
def _slurm() -> Iterator[Slurm]:
    with provide(slurm()) as server:
        yield server


@pytest.fixture(scope="session", name="docker")
def _docker() -> Iterator[Docker]:
    with provide(docker()) as server:
        yield server


@pytest.fixture(scope="session", name="registry")
def _registry() -> Iterator[str]:
    with provide(registry()) as server:
        yield server


@pytest.fixture(scope="session", name="kubernetes")
def _kubernetes() -> Iterator[Kubernetes]:
    with provide(kubernetes()) as server:
        yield server


@pytest.fixture(scope="module", name="node_exporter")
def _node_exporter() -> Iterator[prometheus.Endpoint]:
    with provide(prometheus.node_exporter()) as server:
        yield server


@pytest.fixture(scope="module", name="alertmanager")
def _alertmanager() -> Iterator[prometheus.Endpoint]:
    with provide(prometheus.alertmanager()) as server:
        yield server
