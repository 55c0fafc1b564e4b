import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bedplate.core.attempt import Attempt
from train.parallels import CASES, Trained, read
from train.samples import attempt_in, wait_until

TESTS = Path(__file__).parent.parent


class Hosts:
    """Starts hosts of ranks from one process that imported torch, so that a test does not wait for it."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(TESTS), *(each for each in sys.path if each)])
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "train" / "zygote.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def start(self, attempt: Attempt) -> int:
        """Start the host of an attempt; returns its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(attempt.folder + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def run(self, attempt: Attempt) -> int:
        """Run an attempt to its end; returns the exit code of its host."""
        self.start(attempt)
        wait_until((attempt.path / "exit").exists)
        return int((attempt.path / "exit").read_text())

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.communicate(timeout=30)


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    running = Hosts()
    yield running
    running.close()


class Parity:
    """Cases of `parallels`, each trained when it is first asked for, with all others of its world size."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self._hosts = hosts
        self._folder = folder
        self._done: dict[int, Path] = {}

    def trained(self, name: str) -> Trained:
        world_size = next(size for size, cases in CASES.items() for each in cases if each["name"] == name)
        if world_size not in self._done:
            attempt = attempt_in(self._folder / str(world_size), world_size=world_size, function="parity")
            self._hosts.start(attempt)
            wait_until((attempt.path / "exit").exists, limit_s=240)
            code = int((attempt.path / "exit").read_text())
            assert code == 0, "".join(path.read_text() for path in sorted((attempt.path / "logs").iterdir()))[-5000:]
            self._done[world_size] = attempt.path
        return read(self._done[world_size], name)


@pytest.fixture(scope="session")
def parity(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Parity:
    return Parity(hosts, tmp_path_factory.mktemp("parity"))
