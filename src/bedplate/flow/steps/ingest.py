"""The ingest step: a stream or a file becomes a table of the lake; its version is a cut.

Does not know: how exactly-once is reached (`data.ingest`).
"""

from __future__ import annotations

from bedplate.core.attempt import Attempt
from bedplate.core.errors import DataError
from bedplate.core.spec import Dataset
from bedplate.data.ingest import Cut, ingest_file, ingest_stream
from bedplate.data.lake import Lake
from bedplate.flow.steps.context import StepContext


def work(attempt: Attempt) -> int:
    """Ingest up to the end that the source had when its writer ended, or has now. Returns 0."""
    step = StepContext(attempt)
    dataset = Dataset.model_validate(attempt.spec["dataset"])
    lake = Lake(step.state / "lake")
    if dataset.topic is not None:
        written = attempt.inputs.get(dataset.source)
        up_to = {int(partition): offset for partition, offset in written["meta"]["offsets"].items()} if written else None
        if up_to is None and not (step.state / "log" / dataset.topic).is_dir():
            raise DataError("the stream does not exist", value=dataset.source, fix="append to it first")
        stream = step.log(dataset.topic)
        cut = ingest_stream(attempt.step, dataset, stream, dataset.topic, lake, step.progress("records"), up_to)
    else:
        cut = ingest_file(attempt.step, dataset, step.root / dataset.source, lake, step.progress("rows"))
    _report(step, cut)
    return 0


def _report(step: StepContext, cut: Cut) -> None:
    meta = {"rows": cut.rows, "quarantined": cut.quarantined, "table_version": cut.table_version}
    offsets = {str(partition): offset for partition, offset in cut.offsets.items()}
    location = step.state / "lake" / step.attempt.step
    step.output(step.attempt.step, "table", cut.digest, location, **meta, offsets=offsets, reasons=dict(cut.reasons))
