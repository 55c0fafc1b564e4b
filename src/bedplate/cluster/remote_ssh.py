"""OpenSSH and rsync as the way to a host: commands, streams of bytes, and files of which only what is missing travels.

One connection is shared by all that goes to a host (ControlMaster). Keys, jumps and users are those of the user's own ssh_config; nothing
is ever asked (BatchMode), and nothing secret is on a command line. A connection that says nothing for 15 s is lost.
Does not know: what is run, or what a lost connection means to it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.errors import BedplateError, Unavailable

CONNECT_S = 10
LIMIT_S = 120.0
COPY_LIMIT_S = 24 * 3600.0
SSH_FAILED = 255  # ssh(1): an error of its own
RSYNC_LOST = frozenset({10, 12, 20, 30, 35, SSH_FAILED})  # rsync(1): socket, stream, signal, timeouts
ALIVE = ("ServerAliveInterval=5", "ServerAliveCountMax=3")


class Lost(Exception):
    """The host did not answer, or the connection broke: what was asked may or may not have happened there."""


def sockets() -> Path:
    """The folder of shared connections: this user's alone, and short, because a socket's path has at most 107 bytes (unix(7)).

    Raises Unavailable when somebody else's folder is in its place.
    """
    folder = Path(tempfile.gettempdir()) / f"bedplate-ssh-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise Unavailable("the folder of ssh's connections is not this user's alone", value=str(folder), fix=f"rm -r {folder}")
    return folder


def check_tools() -> None:
    """Raises Unavailable where this machine lacks ssh or rsync."""
    for tool in ("ssh", "rsync"):
        if shutil.which(tool) is None:
            raise Unavailable(f"pools of engine ssh need {tool!r} on this machine", fix="apt install openssh-client rsync")


@dataclass(frozen=True)
class Shell:
    """A host as ssh(1) names it; `config` is a file for ssh's -F, empty for the user's own."""

    host: str
    config: str = ""

    @property
    def ssh(self) -> list[str]:
        """The client with its options, without the host."""
        shared = ("ControlMaster=auto", "ControlPersist=60", f"ControlPath={sockets()}/%C")
        options = ("BatchMode=yes", f"ConnectTimeout={CONNECT_S}", *ALIVE, *shared)
        given = ["-F", self.config] if self.config else []
        return ["ssh", "-T", *given, *(word for option in options for word in ("-o", option))]

    def run(self, command: Sequence[str], limit_s: float = LIMIT_S) -> str:
        """What a command printed there. Raises Lost, and BedplateError with its last line when it failed."""
        return self.script(shlex.join(command), limit_s)

    def script(self, text: str, limit_s: float = LIMIT_S) -> str:
        """The same for a line of shell."""
        return _done([*self.ssh, self.host, "--", text], self.host, frozenset({SSH_FAILED}), limit_s)

    def stream(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A command whose output is read as it comes; it ends with code 255 when the connection breaks."""
        argv = [*self.ssh, self.host, "--", shlex.join(command)]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)

    def push(self, sources: Sequence[tuple[str, str]], target: str, *options: str) -> None:
        """Bring files and folders, each named relative to a folder here, below `target` there. Raises Lost and BedplateError."""
        if sources:
            making = f"--rsync-path=mkdir -p {shlex.quote(target)} && rsync"
            self._rsync([*options, making, "-R", *(f"{folder}/./{name}" for folder, name in sources), f"{self.host}:{target}/"])

    def pull(self, source: str, names: Sequence[str], target: str, *options: str) -> None:
        """Bring files and folders, named relative to `source` there, below `target` here; links that lead out stay there."""
        if names:
            words = [f"{self.host}:{source}/./{names[0]}", *(f":{source}/./{name}" for name in names[1:])]
            self._rsync([*options, "--safe-links", "-R", *words, f"{target}/"])

    def _rsync(self, words: Sequence[str]) -> None:
        transport = ["-e", shlex.join(self.ssh)]
        _done(["rsync", "-a", "-s", "--no-owner", "--no-group", *transport, *words], self.host, RSYNC_LOST, COPY_LIMIT_S)


def _done(argv: Sequence[str], host: str, lost: frozenset[int], limit_s: float) -> str:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Lost(f"{host} did not answer within {limit_s:g} s") from error
    said = done.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"exit code {done.returncode}"
    if done.returncode in lost:
        raise Lost(f"{host}: {said[0] if said else last}")
    if done.returncode != 0:
        raise BedplateError(f"a command failed on host {host}: {last}", fix=f"see `ssh {host}`, and docs/how-to/run-on-ssh-hosts.md")
    return done.stdout.decode(errors="replace")
