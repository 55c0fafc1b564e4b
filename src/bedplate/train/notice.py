"""The stop notice: SIGTERM asks a worker to write a checkpoint and end.

Does not know: who sends it, or how ranks agree on the step at which they stop.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Stopped(BaseException):
    """Raised through user code to end it on notice. Not an Exception: `except Exception` must not hold it up."""


class Regroup(BaseException):
    """Raised through user code on every rank at one step: the host wants another generation to begin, with more or fewer ranks."""


class StopNotice:
    """Catches SIGTERM while it is entered. The notice ends user code at once, or, while deferred, waits to be looked at."""

    def __init__(self) -> None:
        self.given = False
        self._deferred = 0

    def __enter__(self) -> StopNotice:
        self._previous = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a notice only sets `given`."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def _receive(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the form of a signal handler
        first, self.given = not self.given, True
        if first and not self._deferred:
            raise Stopped
