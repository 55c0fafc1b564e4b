"""The job step without inputs: a function that takes a run. A command needs no worker: the shim runs it (`flow.tracking`).

`JobRun` is what such a function sees: parameters, progress, and the streams and files that it declared as outputs.
Does not know: torch; a job with inputs is the train step.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError, nearest
from bedplate.core.versions import Output
from bedplate.data.streams.log import Log
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.flow.steps.models import base_folder, saved_output
from bedplate.flow.steps.outputs import STREAM, report_outputs


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
        uri = f"{STREAM}{topic}"
        if uri not in self._step.attempt.spec["outputs"]:
            raise JobError(
                "the stream is not among the job's outputs", value=uri, fix=f"add it: {nearest(uri, self._step.attempt.spec['outputs'])}"
            )
        return OutputStream(self._step.log(topic), self._step.attempt.step)

    @property
    def base(self) -> Path:
        """The folder of the model that the job starts from (`base:`), its files checked. Raises JobError when the job has none."""
        return base_folder(self._step.attempt)

    def save(self, model: Any, signature: Mapping[str, Any] | None = None) -> Output:
        """Make a version of the job's model: an estimator of scikit-learn, or a folder with files in safe formats.

        `signature` has `inputs` and `outputs`, lists of {name, dtype, shape}; without it the files tell. Raises JobError for anything else,
        and UnsafeArtifact for a file that could run code.
        """
        made = saved_output(self._step.attempt, model, signature)
        self._step.journal.write("output", **made.to_json())
        self._step.journal.sync()
        return made

    def progress(self, done: int, total: int, unit: str = "items") -> None:
        """Tell how far the job is."""
        self._step.progress(unit)(done, total)

    def log(self, *, step: int = 0, **values: float) -> None:
        """Log metrics, at a step if the job has any."""
        self._step.journal.write("metric", step=step, values={name: float(value) for name, value in values.items()})


def work(attempt: Attempt) -> int:
    """Call the job's function with its parameters, then report its declared outputs. Returns 0."""
    step = StepContext(attempt)
    function = load_function(attempt.spec["function"])
    run = JobRun(step)
    function(run, **checked_params(function, run.params))
    report_outputs(step)
    return 0


def checked_params(function: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, if the function takes the run and all of them.

    Raises JobError for a function without arguments, for a parameter that it does not take (naming the nearest), and for one that it lacks.
    """
    signature = inspect.signature(function).parameters
    if not signature:
        name = function.__name__
        raise JobError("the function takes no argument, but is called with the run", value=name, fix=f"declare it as {name}(run)")
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.values())
    for name in params:
        if name not in signature and not takes_any:
            raise JobError("the function takes no such parameter", value=name, fix=nearest(name, list(signature)[1:]))
    for each in list(signature.values())[1:]:
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY) and each.name not in params:
            fix = f"add `{each.name}` to the job's params, or give it a default"
            raise JobError("the function needs a parameter that nobody gave", value=each.name, fix=fix)
    return dict(params)
