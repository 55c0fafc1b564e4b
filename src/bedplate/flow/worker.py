"""The worker's entry: `python -m bedplate.flow.worker ATTEMPT_FOLDER`. Reads the attempt and does the step's work.

The exit code is the verdict that the shim records: 0 succeeded, 1 the user's error (a `failure` entry tells it), 75 stopped on notice.
Does not know: the ledger; all that it has to say goes to the journal.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from bedplate.core.attempt import read_attempt
from bedplate.core.errors import BedplateError
from bedplate.core.journal import JournalWriter
from bedplate.core.loading import load
from bedplate.flow.tables import WORK


def main(folder: Path) -> int:
    """Do the work of the attempt in `folder`; returns the exit code."""
    attempt = read_attempt(folder)
    try:
        work = load(WORK, attempt.kind, "kind of step")
        return int(work(attempt))
    except BedplateError as error:
        _report(folder, error.one_line())
    except Exception as error:  # noqa: BLE001 - whatever the user's code raised is reported as its failure
        traceback.print_exc()
        _report(folder, f"{type(error).__name__}: {error} ({_place(error, Path(attempt.code))})")
    return 1


def _place(error: Exception, code: Path) -> str:
    """`file:line` of the innermost frame in the user's code (below the folder `code`), or, where there is none, of the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if Path(frame.filename).is_relative_to(code)), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _report(folder: Path, message: str) -> None:
    print(message, file=sys.stderr)  # noqa: T201 - standard error is the run's log
    JournalWriter(folder, "worker").write("failure", failure="user_error", message=message, rank=0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
