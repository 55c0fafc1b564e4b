"""The feature step: a feature view is computed from a cut of its dataset.

Does not know: how windows are computed (`data.features`).
"""

from __future__ import annotations

from bedplate.core.attempt import Attempt
from bedplate.core.spec import Dataset, Feature
from bedplate.data.features import columns_of, materialize
from bedplate.data.ingest import read_cut
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps.context import StepContext


def work(attempt: Attempt) -> int:
    """Compute the view into the attempt's folder. Returns 0."""
    step = StepContext(attempt)
    feature = Feature.model_validate(attempt.spec["feature"])
    dataset = Dataset.model_validate(attempt.spec["dataset"])
    cut = step.version(feature.from_)
    lake, version, needed = lake_of(step), cut.meta["table_version"], columns_of(feature, dataset)
    folder = attempt.out / "view"
    view = materialize(attempt.step, feature, dataset, read_cut(lake, feature.from_, version, dataset, columns=needed), folder)
    columns = [name for name, _ in view.columns]
    step.output(attempt.step, "view", view.digest, folder, features=columns, rows=view.cut["rows"], definition=attempt.spec["feature"])
    return 0
