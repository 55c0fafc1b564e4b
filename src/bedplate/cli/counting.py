"""How far a command is, in bytes, on one line of a terminal; nothing where no person looks.

Does not know: what is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

EVERY_S = 0.2


@contextmanager
def counted(what: str) -> Iterator[Callable[[int], None]]:
    """A function that is told how many bytes more are done, from any thread."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    lock, done, shown_s = Lock(), 0, 0.0

    def count(nbytes: int) -> None:
        nonlocal done, shown_s
        with lock:
            done += nbytes
            if time.monotonic() - shown_s > EVERY_S:
                shown_s = time.monotonic()
                sys.stderr.write(f"\r{what}: {done / 1e6:,.0f} MB ")
                sys.stderr.flush()

    try:
        yield count
    finally:
        sys.stderr.write("\r\x1b[K")
