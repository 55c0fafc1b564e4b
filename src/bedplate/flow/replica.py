"""The entry of a replica behind a router: `python -m bedplate.flow.replica ATTEMPT_FOLDER NUMBER`.

It ends when its standard input does: that is a pipe from the router, so none outlives it.
Does not know: how many there are, or who asks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from bedplate.core.attempt import read_attempt
from bedplate.core.errors import BedplateError
from bedplate.core.loading import Entry, load

GRACE_S = 20.0
_WORK = {"replica": Entry("bedplate.flow.steps.endpoint:replica", "one process that answers", "torch")}


def main(folder: Path, number: int) -> int:
    """Serve as the `number`-th replica of the attempt in `folder`; returns the exit code."""
    threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="router", daemon=True).start()
    try:
        return int(load(_WORK, "replica", "way to serve")(read_attempt(folder), number))
    except BedplateError as error:
        print(error.one_line(), file=sys.stderr)  # noqa: T201 - standard error is the run's log
        return 1


def _watch(descriptor: int) -> None:
    """End the process once the router's end of the pipe is closed: by a signal, so that what is under way is answered and stored."""
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
