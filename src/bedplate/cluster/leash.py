"""The leash: what a shim starts in place of a command, so that the kernel kills the command when the shim dies.

`python leash.py SHIM_PID FOLDER COMMAND...` asks for SIGKILL at the death of its parent (PR_SET_PDEATHSIG of prctl(2), which outlives
execve(2)), goes to the folder and becomes the command. A program of its own, since Python code between fork and exec is not safe in a
process with threads, and a shim may serve. Signals that Python ignores are handed on as they are by default, so that `yes | head` ends
as in any shell. Standard library only.
Does not know: attempts, journals, or what it becomes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 70  # EX_SOFTWARE of sysexits.h: trying again is worth while
EXIT_NOT_STARTED = 127  # as shells have it


def main(shim: int, folder: str, command: list[str]) -> int:
    """Become `command` in `folder`, on the leash of the process `shim`. Returns an exit code only where that fails."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != shim:  # it died before the kernel was asked
        return EXIT_ORPHANED
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(folder)
        os.execvp(command[0], command)  # noqa: S606 - becoming the command, without a shell, is its purpose
    except OSError as error:
        print(f"{command[0]!r} cannot be started: {error}", file=sys.stderr)  # noqa: T201 - standard error is the rank's log
        return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
