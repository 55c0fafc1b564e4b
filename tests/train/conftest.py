import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bedplate.core.attempt import Attempt
from train.samples import wait_until

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
