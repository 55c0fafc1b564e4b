"""Tracking for commands: the MLflow routes of `models` on a loopback port of the shim, writing to the attempt's journal.

Does not know: MLflow's protocol (`models.mlflow_routes`) or the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bedplate.core.attempt import Attempt
from bedplate.core.journal import JournalWriter
from bedplate.core.settings import unproxied_loopback
from bedplate.models.mlflow_routes import MlflowRoutes, serve_mlflow


@contextmanager
def tracking(attempt: Attempt, journal: JournalWriter) -> Iterator[Mapping[str, str]]:
    """Serve while the command runs. Yields its environment: the tracking address, and the paths of its inputs and outputs."""
    artifacts = attempt.out / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    routes = MlflowRoutes(attempt.run, attempt.step, journal, artifacts)
    inputs = {name: values["path"] for name, values in attempt.inputs.items()}
    places = {"BEDPLATE_RUN": attempt.run, "BEDPLATE_INPUTS": json.dumps(inputs), "BEDPLATE_OUT": str(attempt.out)}
    with serve_mlflow(routes) as address:
        yield {**places, "BEDPLATE_PARAMS": json.dumps(dict(attempt.spec["params"])), **address, **unproxied_loopback()}
