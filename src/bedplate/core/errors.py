"""The error tree: every failure a person can meet says what failed, the value that caused it, and the fix.

    BedplateError
    |- SpecError           the project file is wrong: file, line, field, value, fix
    |- DataError           data does not fit what was declared (a missing column, an unreadable file)
    |- LedgerError         the ledger cannot be opened or written
    |  |- ChainBroken      an event was changed, dropped or reordered
    |  |- Fenced           a writer whose token is no longer current tried to write
    |  `- Outrun           others appended after the state that a decision was made on
    |- NotFound            a run, version, answer or name that is not there
    |- Busy                somebody else holds what this command needs
    |- Unavailable         an engine, a server or an optional package is missing
    |- UnsafeArtifact      a file of a model could run code when it is loaded
    |- CheckpointError     a checkpoint is incomplete or damaged
    |- EvidenceError       a signed statement is missing, malformed or does not verify
    `- JobError            the user's own code failed

Does not know: how an error is shown (the command line prints `one_line()`, the Python interface raises), or exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BedplateError(Exception):
    """A failure with its cause and its remedy.

    `what` says what failed, `value` is the offending value (shown as given), `fix` is what to do about it.
    """

    def __init__(self, what: str, *, value: object = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.value = value
        self.fix = fix

    def one_line(self) -> str:
        """The error in one line: what, value, fix."""
        text = self.what
        if self.value is not None:
            text += f" (got {self.value!r})"
        if self.fix:
            text += f". Fix: {self.fix}"
        return text

    def __str__(self) -> str:
        return self.one_line()


class SpecError(BedplateError):
    """The project file is wrong. `file`, `line` (1-based) and `field` (dotted path) say where."""

    def __init__(
        self,
        what: str,
        *,
        file: str = "",
        line: int = 0,
        field: str = "",
        value: object = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what, value=value, fix=fix)
        self.file = file
        self.line = line
        self.field = field

    def one_line(self) -> str:
        """The error in one line, led by `file:line: field:`."""
        place = f"{self.file}:{self.line}: " if self.file else ""
        field = f"{self.field}: " if self.field else ""
        return place + field + super().one_line()


class DataError(BedplateError):
    """Data does not fit what was declared about it."""


class LedgerError(BedplateError):
    """The ledger cannot be opened, read or written."""


class ChainBroken(LedgerError):
    """An event of the ledger was changed, dropped or reordered."""


class Fenced(LedgerError):
    """A writer whose token is no longer current tried to write."""


class Outrun(LedgerError):
    """Others appended after the state that a decision was made on: look again, and decide again."""


class NotFound(BedplateError):
    """A run, version, answer or name that is not there."""


class Busy(BedplateError):
    """Somebody else holds what this command needs."""


class Unavailable(BedplateError):
    """An engine, a server or an optional package is missing."""


class UnsafeArtifact(BedplateError):
    """A file of a model could run code when it is loaded, and nobody vouched for it. `value` is its SHA-256."""


class CheckpointError(BedplateError):
    """A checkpoint is incomplete or damaged."""


class EvidenceError(BedplateError):
    """A signed statement is missing, malformed or does not verify."""


class JobError(BedplateError):
    """The user's own code failed or broke its contract with the run context."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A phrase that names the nearest known names, for the `fix` of an unknown name."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(choice) for choice in close) + "?"
    if not choices:
        return "none is declared"
    return "known: " + ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
