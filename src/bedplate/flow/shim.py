"""The shim's entry: `python -m bedplate.flow.shim ATTEMPT_FOLDER`. Watches one attempt; for a command it also serves MLflow's protocol.

Does not know: the ledger, or what the attempt computes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bedplate.cluster.shim import supervise
from bedplate.core.attempt import Attempt, read_attempt
from bedplate.core.journal import JournalWriter
from bedplate.core.loading import Entry, load

_TRACKING = {"tracking": Entry("bedplate.flow.tracking:tracking", "MLflow's protocol on loopback")}


@contextmanager
def serve(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    """For a command, the tracking endpoint while it runs; yields the environment that leads there."""
    if not attempt.spec.get("command"):
        yield {}
        return
    with load(_TRACKING, "tracking", "service")(attempt, journal) as environment:
        yield environment


def main(folder: Path) -> int:
    """Supervise the attempt in `folder`; returns the shim's exit code."""
    attempt = read_attempt(folder)
    return supervise(attempt, JournalWriter(folder, "shim"), serve)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
