"""How a worker's end is told: exit codes, and a failure as a record that fits in a journal.

Does not know: torch, processes, or what the loop does about a failure.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bedplate.core.errors import BedplateError

EXIT_DONE = 0
EXIT_USER_ERROR = 1
EXIT_LOST = 70  # EX_SOFTWARE of sysexits.h: a worker was lost; trying again is worth while
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped on notice, to be gone on with later

TRACEBACK_CHARS = 16_000  # fits into a pipe's buffer whole
PEER_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "TCPStore")


@dataclass(frozen=True)
class Failure:
    """Why a rank failed. `at_s` is in seconds since the epoch. A `worker_lost` here is the echo of another rank's end."""

    failure: Literal["user_error", "worker_lost"]
    message: str
    rank: int
    traceback: str
    at_s: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for the journal."""
        return asdict(self)


def describe(error: BaseException, rank: int, code: Path) -> Failure:
    """What an exception says: its type and message, and the place in the user's code (below the folder `code`) that it came from."""
    lines = "".join(traceback.format_exception(error))
    kind: Literal["user_error", "worker_lost"] = "worker_lost" if any(map(_is_peers, _chain(error))) else "user_error"
    return Failure(kind, f"{_said(error)}{_place(error, code)}", rank, lines[-TRACEBACK_CHARS:], time.time())


def _said(error: BaseException) -> str:
    text = error.one_line() if isinstance(error, BedplateError) else str(error)
    first = text.strip().splitlines()[0] if text.strip() else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _place(error: BaseException, code: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(code)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    name = Path(frame.filename).relative_to(code) if own else Path(frame.filename).name
    return f" ({name}:{frame.lineno})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_peers(error: BaseException) -> bool:
    """Whether an error is what torch.distributed raises when another rank went away; gloo raises plain RuntimeErrors."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__.startswith("Dist") or any(sign in str(error) for sign in PEER_SIGNS)
