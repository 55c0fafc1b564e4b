"""The online step: the embedded online store of an endpoint, from the same views that training read.

Does not know: how a value is looked up (`data.online`).
"""

from __future__ import annotations

from bedplate.core.attempt import Attempt
from bedplate.core.spec import Dataset
from bedplate.data.features import open_view
from bedplate.data.ingest import read_cut
from bedplate.data.lake import Lake
from bedplate.data.online import build
from bedplate.flow.steps.context import StepContext


def work(attempt: Attempt) -> int:
    """Build the store in the attempt's folder. Returns 0."""
    step = StepContext(attempt)
    lake = Lake(step.state / "lake")
    datasets = {name: Dataset.model_validate(values) for name, values in attempt.spec["datasets"].items()}
    tables = {
        name: (declared, read_cut(lake, name, step.version(name).meta["table_version"], declared)) for name, declared in datasets.items()
    }
    path = attempt.out / "online.db"
    digest = build(path, [open_view(step.path(view)) for view in attempt.spec["views"]], tables, step.progress("entities"))
    step.output(attempt.step, "online", digest, path, features=list(attempt.spec["views"]))
    return 0
