"""The ingest step: a stream or a file becomes a table of the lake; its version is a cut.

Does not know: how exactly-once is reached (`data.ingest`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.errors import DataError
from bedplate.core.loading import Entry, load
from bedplate.core.spec import Dataset
from bedplate.data.expectations import Checked, check, stopping
from bedplate.data.ingest import Cut, ingest_file, ingest_stream
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps.context import StepContext
from bedplate.flow.streams import has_stream, stream_of

_OBJECTS = {"fetched": Entry("bedplate.data.objects:fetched", "what lies in an object store")}
_LOG = logging.getLogger(__name__)


def work(attempt: Attempt) -> int:
    """Ingest up to the end that the source had when its writer ended, or has now. Returns 0."""
    step = StepContext(attempt)
    dataset = Dataset.model_validate(attempt.spec["dataset"])
    lake = lake_of(step)
    if dataset.topic is not None:
        written = attempt.inputs.get(dataset.source)
        up_to = {int(partition): offset for partition, offset in written["meta"]["offsets"].items()} if written else None
        if up_to is None and not has_stream(dataset, step.state):
            raise DataError("the stream does not exist", value=dataset.source, fix="append to it first")
        stream = stream_of(dataset, step.state)
        cut = ingest_stream(attempt.step, dataset, stream, dataset.topic, lake, step.progress("records"), up_to)
    else:
        source = step.root / dataset.source
        if dataset.is_remote:
            source = load(_OBJECTS, "fetched", "source")(dataset.source, step.state / "objects" / attempt.step)
        cut = ingest_file(attempt.step, dataset, source, lake, step.progress("rows"))
    report(step, cut, check(lake, attempt.step, cut.table_version, dataset, SystemClock().now()))
    return 0


def report(step: StepContext, cut: Cut, checked: Sequence[Checked]) -> None:
    """Accept the cut as a version. Raises DataError when an expectation that stops did not hold; the rows stay, and no step reads them."""
    for each in checked:
        if not each.held:
            _LOG.warning("expected %s, found %s", each.name, each.found)
    error = stopping(step.attempt.step, checked)
    if error is not None:
        raise error
    meta: dict[str, Any] = {"rows": cut.rows, "quarantined": cut.quarantined, "table_version": cut.table_version}
    if checked:
        meta["expectations"] = [each.recorded() for each in checked]
    if step.lake_uri:
        meta["lake"] = step.lake_uri
    offsets = {str(partition): offset for partition, offset in cut.offsets.items()}
    location = step.state / "lake" / step.attempt.step
    step.output(step.attempt.step, "table", cut.digest, location, **meta, offsets=offsets, reasons=dict(cut.reasons))
