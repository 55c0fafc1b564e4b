"""Where the ranks of an attempt meet: torch's store, in a process of its own beside their host.

The host forks a rank whenever one is lost, so it must not have the store's threads: what a thread holds at the moment of a fork stays
held in the new process for ever. (The store looks up the name of everyone who connects, under a lock of the C library; a rank that was
forked in that moment waited for that lock when it connected itself.)
Does not know: what the ranks tell one another.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback

from torch.distributed import TCPStore  # type: ignore[attr-defined] # torch re-exports it untyped

from bedplate.core.attempt import Attempt
from bedplate.train.forking import LOOPBACK, let_go


class Meeting:
    """The process that holds the store for at most `most` ranks, on the port of `listener`; it ends with this process."""

    def __init__(self, attempt: Attempt, listener: socket.socket, most: int) -> None:
        """Fork it; `listener` is its own from now on. Raises OSError when there can be no further process."""
        host = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _hold(attempt, listener, most, host)
        listener.close()  # else who connects after the store has died waits instead of being refused
        self._ended = False

    def ended(self) -> bool:
        """Whether it died, so that no rank can join the others any more."""
        self._ended = self._ended or os.waitpid(self._pid, os.WNOHANG)[0] != 0
        return self._ended

    def close(self) -> None:
        """End it."""
        if not self.ended():
            os.kill(self._pid, signal.SIGKILL)
            self._ended = os.waitpid(self._pid, 0)[0] != 0


def _hold(attempt: Attempt, listener: socket.socket, most: int, host: int) -> None:
    """What the forked process does; never returns."""
    try:
        let_go(attempt.log(0).with_name("store.log"), host)
        port = listener.getsockname()[1]
        store = TCPStore(LOOPBACK, port, most, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
        while store is not None:
            signal.pause()
    except BaseException:  # noqa: BLE001 - nothing may get out of the child into the host's own frames
        traceback.print_exc()
    finally:
        os._exit(1)
