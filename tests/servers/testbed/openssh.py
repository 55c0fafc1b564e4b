"""An sshd on loopback that lets one key in, and a client's configuration that calls it by the names of three hosts.

Does not know: what runs there.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from servers.testbed.process import LOOPBACK, accepts, free_ports, output_of, program, running, scratch

HOSTS = ("a", "b", "c")

SERVER = """
ListenAddress {loopback}
Port {port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxSessions 30
MaxStartups 100
"""
CLIENT = """
Host {hosts}
  HostName {loopback}
  Port {port}
  User {user}
  IdentityFile {directory}/key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known
  StrictHostKeyChecking accept-new
  LogLevel ERROR
Host nowhere
  HostName {loopback}
  Port 1
"""


@dataclass(frozen=True)
class OpenSsh:
    """`config` is for ssh's -F; `process` is the daemon."""

    directory: Path
    config: Path
    process: int

    def cut(self) -> int:
        """Break every connection that is open, as a lost link does; returns how many there were."""
        sessions = [child for child in psutil.Process(self.process).children(recursive=True) if child.name().startswith("sshd")]
        for session in sessions:
            with suppress(psutil.NoSuchProcess):
                session.kill()
        return len(sessions)


@contextmanager
def openssh() -> Iterator[OpenSsh]:
    """The daemon runs as whoever runs the tests, and lets nobody else in."""
    sshd, keygen = program("openssh", "sshd"), program("openssh", "ssh-keygen")
    for piece in ("ssh", "rsync"):
        program("openssh", piece)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd separates privileges
    (port,) = free_ports(1)
    with scratch("ssh") as directory:
        for name in ("host", "key"):
            output_of([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)])
        values = {"loopback": LOOPBACK, "port": port, "directory": directory, "hosts": " ".join(HOSTS), "user": getpass.getuser()}
        (directory / "sshd_config").write_text(SERVER.format(**values))
        (directory / "ssh_config").write_text(CLIENT.format(**values))
        argv = [sshd, "-D", "-e", "-f", str(directory / "sshd_config")]
        with running(argv, directory, lambda: accepts(port)) as process:
            yield OpenSsh(directory, directory / "ssh_config", process.pid)
