"""Tracking for commands: the MLflow routes of `models` on a loopback port of the shim, writing to the attempt's journal.

When the command has ended, its declared outputs and its artifacts are reported; one that is missing is not, and `flow.accept` sees that.

Does not know: MLflow's protocol (`models.mlflow_routes`) or the ledger.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bedplate.core.attempt import Attempt
from bedplate.core.errors import BedplateError
from bedplate.core.journal import JournalWriter
from bedplate.core.settings import interpreter_first, unproxied_loopback
from bedplate.core.versions import Output
from bedplate.flow.steps.models import folder_output
from bedplate.flow.steps.outputs import ARTIFACTS, artifacts, declared
from bedplate.models.mlflow_routes import MlflowRoutes, serve_mlflow


@contextmanager
def tracking(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    """Serve while the command runs. Yields its environment: the tracking address, and the paths of its inputs and outputs."""
    folder = attempt.out / ARTIFACTS
    folder.mkdir(parents=True, exist_ok=True)
    routes = MlflowRoutes(attempt.run, attempt.step, journal, folder)
    inputs = {name: values["path"] for name, values in attempt.inputs.items()}
    places = {"BEDPLATE_RUN": attempt.run, "BEDPLATE_INPUTS": json.dumps(inputs), "BEDPLATE_OUT": str(attempt.out)}
    with serve_mlflow(routes) as address:
        yield {
            **places,
            "BEDPLATE_PARAMS": json.dumps(dict(attempt.spec["params"])),
            **address,
            **unproxied_loopback(),
            **interpreter_first(Path(sys.executable)),
        }
    for name in attempt.spec["outputs"]:
        _report(attempt, journal, partial(declared, name=name))
    _report(attempt, journal, artifacts)
    _report(attempt, journal, folder_output, refused=True)  # who left a model wants a version of it, or to hear why there is none


def _report(attempt: Attempt, journal: JournalWriter, find: Callable[[Attempt], Output | None], **facts: bool) -> None:
    try:
        output = find(attempt)
    except (BedplateError, OSError) as error:
        journal.write("failure", failure="user_error", message=str(error), rank=0, **facts)
        return
    if output is not None:
        journal.write("output", **output.to_json())
