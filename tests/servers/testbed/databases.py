"""Postgres and Redis on loopback, each with a password of its own.

Does not know: schemas.
"""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.testbed.process import LOOPBACK, Missing, accepts, free_ports, output_of, program, running, scratch


@dataclass(frozen=True)
class Postgres:
    """`url`: a connection URL with the superuser's password in it."""

    url: str
    port: int
    user: str
    password: str

    def query(self, sql: str) -> str:
        """Rows as psql prints them: one a line, columns divided by `|`."""
        env = {"PGPASSWORD": self.password}
        argv = [program("postgres", "psql"), "-h", LOOPBACK, "-p", str(self.port), "-U", self.user, "-d", "postgres"]
        return output_of([*argv, "-v", "ON_ERROR_STOP=1", "-XAtqc", sql], env).strip()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A cluster of its own in a scratch directory. Postgres refuses to run as root: root starts it as `postgres`."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not versions:
        raise Missing("postgres")
    binaries = versions[-1].parent
    account = "postgres" if os.geteuid() == 0 else None
    (port,) = free_ports(1)
    password = secrets.token_hex(12)
    with scratch("postgres") as directory:
        (directory / "password").write_text(password)
        if account:
            entry = pwd.getpwnam(account)
            for path in [directory, directory / "password"]:
                os.chown(path, entry.pw_uid, entry.pw_gid)
        (directory / "password").chmod(0o600)
        data = directory / "data"
        create = [str(binaries / "initdb"), "-D", str(data), "-U", "bedplate", "--auth=scram-sha-256", "--no-sync"]
        create += [f"--pwfile={directory}/password", "--locale=C.UTF-8", "--encoding=UTF8"]
        groups: list[str] | None = [] if account else None
        subprocess.run(create, cwd=directory, check=True, capture_output=True, user=account, group=account, extra_groups=groups)
        argv = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-c", f"listen_addresses={LOOPBACK}"]
        argv += ["-c", f"unix_socket_directories={directory}", "-c", "fsync=off"]
        server = Postgres(f"postgresql://bedplate:{password}@{LOOPBACK}:{port}/postgres", port, "bedplate", password)
        fast = signal.SIGINT  # SIGTERM would wait for clients to leave
        with running(argv, directory, lambda: _asks(binaries, port), user=account, stop=fast):
            yield server


def _asks(binaries: Path, port: int) -> bool:
    ask = [str(binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(port)]
    return subprocess.run(ask, check=False).returncode == 0


@dataclass(frozen=True)
class Redis:
    """A server that keeps nothing on disk."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """A connection URL with the password in it."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def command(self, *words: str) -> str:
        """What redis-cli prints for one command."""
        argv = [program("redis", "redis-cli"), "-h", LOOPBACK, "-p", str(self.port), *words]
        return output_of(argv, {"REDISCLI_AUTH": self.password}).strip()


@contextmanager
def redis() -> Iterator[Redis]:
    """One server in memory."""
    binary = program("redis", "redis-server")
    program("redis", "redis-cli")
    (port,) = free_ports(1)
    password = secrets.token_hex(12)
    with scratch("redis") as directory:
        config = directory / "redis.conf"
        config.write_text(f'bind {LOOPBACK}\nport {port}\nrequirepass {password}\nsave ""\ndir {directory}\n')
        config.chmod(0o600)
        with running([binary, str(config)], directory, lambda: accepts(port)):
            yield Redis(port, password)
