"""The shim of these tests: `python shim_main.py ATTEMPT_FOLDER [GRACE_S [SERVE]]`, SERVE being `serve`, `slow` or `broken`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bedplate.cluster.shim import supervise
from bedplate.core.attempt import Attempt, read_attempt
from bedplate.core.journal import JournalWriter


@contextmanager
def serve(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    journal.write("message", text="serving")
    yield {"SERVED": attempt.run}
    journal.write("message", text="served")


@contextmanager
def slow(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    journal.write("message", text="serving")
    (attempt.path / "go").read_text()  # a FIFO, until somebody writes there
    yield {}


@contextmanager
def broken(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    raise RuntimeError("no port is free")
    yield {}


SERVES = {"serve": serve, "slow": slow, "broken": broken}

if __name__ == "__main__":
    folder, grace_s, served = Path(sys.argv[1]), float([*sys.argv, "30"][2]), SERVES.get(sys.argv[-1])
    sys.exit(supervise(read_attempt(folder), JournalWriter(folder, "shim"), served, grace_s))
