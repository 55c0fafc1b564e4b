"""A job without training: what its function is handed, and how it is run in this process.

Imports no torch, so a job that only moves data starts at once. `context.RunContext` adds training to it.
Does not know: processes, feeds or checkpoints.
"""

from __future__ import annotations

import inspect
import math
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError, nearest
from bedplate.core.journal import JournalWriter
from bedplate.train.failures import EXIT_DONE, EXIT_STOPPED, EXIT_USER_ERROR, describe
from bedplate.train.notice import Stopped, StopNotice

PROGRESS_EVERY_S = 0.5


class JobContext:
    """The run as user code sees it: parameters in; metrics, tags, progress and files out. Only rank 0 writes to the journal."""

    def __init__(self, attempt: Attempt, journal: JournalWriter, rank: int = 0) -> None:
        self.attempt = attempt
        self.rank = rank
        self.world_size = attempt.world_size
        self.params: Mapping[str, Any] = dict(attempt.spec.get("params", {}))
        self._journal = journal
        self._progress_at_s = -math.inf
        self._step = 0

    @property
    def out(self) -> Path:
        """The folder for files of one's own; rank 0 writes them."""
        self.attempt.out.mkdir(parents=True, exist_ok=True)
        return self.attempt.out

    def log(self, *, step: int | None = None, **values: Any) -> None:
        """Record metrics: numbers, or tensors of one element. Without a step each call is one step further."""
        self._step = self._step + 1 if step is None else step
        self.record("metric", values={name: float(value) for name, value in values.items()}, step=self._step)

    def tag(self, **values: str | int | float | bool) -> None:
        """Record tags: facts about the run that are no metrics."""
        self.record("tag", values=values)

    def progress(self, done: float, total: float | None, unit: str = "steps", note: str = "") -> None:
        """Say how far the work is. Cheap: at most one entry each half second is written, but the first and the last always are."""
        now = time.monotonic()
        if done != total and now - self._progress_at_s < PROGRESS_EVERY_S:
            return
        self._progress_at_s = now
        self.record("progress", done=done, total=total, unit=unit, note=note)

    def record(self, kind: str, **body: Any) -> None:
        """Write a journal entry; ranks other than 0 write none."""
        if self.rank == 0:
            self._journal.write(kind, **body)


def call_arguments(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `function(run, ...)`: its defaults, with `params` on top.

    `seed` is taken by the context and needs no parameter; a function that takes the run alone reads `run.params`.
    Raises JobError for a parameter that the function does not take, or that it needs and nobody gave.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    for name in params:
        if parameters and not takes_any and name not in named and name != "seed":
            raise JobError(f"{function.__name__} has no such parameter", value=name, fix=nearest(name, named))
    arguments = {name: each.default for name, each in named.items() if each.default is not each.empty}
    arguments.update({name: value for name, value in params.items() if name in named or (takes_any and name != "seed")})
    missing = sorted(set(named) - set(arguments))
    if missing:
        raise JobError(f"{function.__name__} needs a parameter", value=missing[0], fix=f"add `{missing[0]}` to the job's params")
    return arguments


def execute_job(
    attempt: Attempt, function: Callable[..., Any], context: Callable[[Attempt, JournalWriter], JobContext] = JobContext
) -> Any:
    """Call `function(run, ...)` of a job without inputs and return what it returns. `context` makes the run, for one that offers more.

    Raises JobError for parameters that do not fit, Stopped on notice, and what the function raises.
    """
    arguments = call_arguments(function, attempt.spec.get("params", {}))
    journal = JournalWriter(attempt.path, "rank-0")
    try:
        with StopNotice():
            run = context(attempt, journal)
            run.params = {**run.params, **arguments}
            run.record("param", values=dict(run.params))
            return function(run, **arguments)
    finally:
        journal.close()


def run_job(attempt: Attempt, main: Callable[[], Any]) -> int:
    """Run `main` here, journal how it failed if it did, and return the exit code (see `failures`)."""
    try:
        main()
    except Stopped:
        return EXIT_STOPPED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - where user code ends: all that it raises becomes a record
        if isinstance(error, SystemExit) and not error.code:
            return EXIT_DONE
        traceback.print_exc()
        journal = JournalWriter(attempt.path, "host")
        journal.write("failure", **{**describe(error, 0, Path(attempt.code)).to_json(), "failure": "user_error"})
        journal.close()
        return EXIT_USER_ERROR
    return EXIT_DONE
