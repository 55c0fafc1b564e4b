"""How a worker's end is told: exit codes, and a failure as a record that fits in a journal.

Does not know: processes, or what the loop does about a failure (`core.run` has the table of classes and policies).
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.core.errors import BedplateError, JobError

EXIT_DONE = 0
EXIT_USER_ERROR = 1
EXIT_LOST = 70  # EX_SOFTWARE of sysexits.h: a worker was lost; trying again is worth while
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped on notice, to be gone on with later

TRACEBACK_CHARS = 16_000  # fits into a socket's buffer whole
TAIL_BYTES = 1 << 16
PEER_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "TCPStore")
MEMORY_SIGNS = ("out of memory", "can't allocate memory", "DefaultCPUAllocator: not enough memory")
EXCLUDE_NODE = "exclude_node"


class NumericError(JobError):
    """A loss was NaN or infinite, or far above those before it. `where` is the batch: loop, epoch, samples of the epoch behind it."""

    def __init__(self, what: str, *, value: object = None, fix: str | None = None, where: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__(what, value=value, fix=fix)
        self.where = where


@dataclass(frozen=True)
class Failure:
    """Why a rank failed, by class (see `core.run.POLICIES`). `at_s` is in seconds since the epoch. A `worker_lost` here is the echo of
    another rank's end."""

    failure: str
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
    return Failure(described_class(error), f"{_said(error)}{_place(error, code)}", rank, lines[-TRACEBACK_CHARS:], time.time())


def described_class(error: BaseException) -> str:
    """The class of failure that an exception means."""
    chain = list(causes(error))
    if any(isinstance(each, NumericError) for each in chain):
        return "numeric"
    if any(map(_is_peers, chain)):
        return "worker_lost"
    return "out_of_memory" if any(map(_is_memory, chain)) else "user_error"


def class_by_log(log: Path, patterns: Mapping[str, str]) -> str | None:
    """The class or action that the first of `patterns` (regular expression -> class) in the end of a log stands for."""
    if not patterns or not log.exists():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return next((meaning for pattern, meaning in patterns.items() if re.search(pattern, text)), None)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


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


def _is_peers(error: BaseException) -> bool:
    """Whether an error is what torch.distributed raises when another rank went away; gloo raises plain RuntimeErrors."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__.startswith("Dist") or any(sign in str(error) for sign in PEER_SIGNS)


def _is_memory(error: BaseException) -> bool:
    """Whether memory of the host or of an accelerator ran out. torch's own error for the latter is a RuntimeError too."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in MEMORY_SIGNS))
