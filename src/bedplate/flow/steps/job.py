"""The job step without inputs: a function that takes a run, or the outputs of a command, which the shim itself has run.

`JobRun` is what such a function sees: parameters, progress, and the streams and files that it declared as outputs.
Does not know: torch; a job with inputs is the train step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.atomic import confined
from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest, digest_file
from bedplate.core.errors import JobError, nearest
from bedplate.data.streams.log import Log
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function


class OutputStream:
    """A declared output stream, written exactly once: a job that starts again goes on where its last append ended."""

    def __init__(self, log: Log, producer: str) -> None:
        """`producer` names the job; its records are numbered from 0."""
        self._log = log
        self._producer = producer

    @property
    def written(self) -> int:
        """How many records this job has in the stream: skip as many before appending."""
        return self._log.next_sequence(self._producer)

    def append(self, records: Iterable[bytes]) -> None:
        """Append records after those already written, durably."""
        self._log.append(list(records), producer=self._producer, sequence=self.written)


class JobRun:
    """The run as a job's function sees it."""

    def __init__(self, step: StepContext) -> None:
        """`params` are those of the project file, overrides applied; `root` is the project's folder; `out` a folder for own files."""
        self._step = step
        self.params: Mapping[str, Any] = dict(step.attempt.spec["params"])
        self.root = step.root
        self.out = step.attempt.out
        self.out.mkdir(parents=True, exist_ok=True)

    def stream(self, topic: str) -> OutputStream:
        """The declared output stream `log://TOPIC`. Raises JobError when it is not declared."""
        uri = f"log://{topic}"
        if uri not in self._step.attempt.spec["outputs"]:
            raise JobError(
                "the stream is not among the job's outputs", value=uri, fix=f"add it: {nearest(uri, self._step.attempt.spec['outputs'])}"
            )
        return OutputStream(self._step.log(topic), self._step.attempt.step)

    def progress(self, done: int, total: int, unit: str = "items") -> None:
        """Tell how far the job is."""
        self._step.progress(unit)(done, total)

    def log(self, **values: float) -> None:
        """Log metrics at no step in particular."""
        self._step.journal.write("metric", step=0, values={name: float(value) for name, value in values.items()})


def work(attempt: Attempt) -> int:
    """Call the job's function with its parameters, then report its declared outputs. Returns 0."""
    step = StepContext(attempt)
    function = load_function(attempt.spec["function"])
    run = JobRun(step)
    function(run, **checked_params(function, run.params))
    report_outputs(step)
    return 0


def checked_params(function: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, if the function takes them all. Raises JobError naming the nearest for one that it does not take."""
    signature = inspect.signature(function).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.values())
    for name in params:
        if name not in signature and not takes_any:
            raise JobError("the function takes no such parameter", value=name, fix=nearest(name, list(signature)[1:]))
    return dict(params)


def report_outputs(step: StepContext) -> None:
    """Report every declared output as a version. Raises JobError for one that was not made."""
    for uri in step.attempt.spec["outputs"]:
        if uri.startswith("log://"):
            _report_stream(step, uri)
        else:
            _report_file(step, uri)


def _report_stream(step: StepContext, uri: str) -> None:
    folder = step.state / "log" / uri.removeprefix("log://")
    if not folder.is_dir():
        raise JobError(
            "the job did not write a stream that it declared", value=uri, fix="append to run.stream(TOPIC), or take it out of `outputs`"
        )
    log = step.log(uri.removeprefix("log://"))
    offsets = {str(partition): offset for partition, offset in sorted(log.end_offsets().items())}
    step.output(uri, "stream", digest([log.identity, offsets]), folder, offsets=offsets, rows=sum(offsets.values()))


def _report_file(step: StepContext, name: str) -> None:
    path: Path = confined(step.root, name)
    if not path.is_file():
        raise JobError(
            "the job did not write a file that it declared",
            value=name,
            fix="write it below the project's folder, or take it out of `outputs`",
        )
    step.output(name, "file", digest_file(path), path, bytes=path.stat().st_size)
