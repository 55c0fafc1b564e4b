"""The training-set step: spine, label and features joined as of each row's time, in shards that the feed reads.

Does not know: how a point-in-time join is done (`data.join`).
"""

from __future__ import annotations

from bedplate.core.attempt import Attempt
from bedplate.core.spec import Dataset, Inputs, Split
from bedplate.data.features import open_view
from bedplate.data.ingest import read_cut
from bedplate.data.training_set import build
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps import samples
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.functions import on_demand_views


def work(attempt: Attempt) -> int:
    """Build the shards in the attempt's folder. Returns 0."""
    if "spine" not in attempt.spec["inputs"]:
        return samples.work(attempt)
    step = StepContext(attempt)
    inputs = Inputs.model_validate(attempt.spec["inputs"])
    datasets = {name: Dataset.model_validate(values) for name, values in attempt.spec["datasets"].items()}
    lake = lake_of(step)
    tables = {name: read_cut(lake, name, step.version(name).meta["table_version"], dataset) for name, dataset in datasets.items()}
    label = inputs.label.partition(".")[0]
    computed = on_demand_views(attempt.spec)
    views = [computed[name] if name in computed else open_view(step.path(name)) for name in inputs.features]
    folder = attempt.out / "training_set"
    split = Split.model_validate(attempt.spec["split"])
    made = build(inputs, split, tables[inputs.spine], datasets[inputs.spine], tables[label], views, folder, step.progress("rows"))
    step.output(attempt.step, "training_set", made.digest, folder, rows=made.rows, splits=dict(made.splits))
    return 0
