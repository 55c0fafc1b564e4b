"""The transform step: a table made of other tables, by a query or by a function of the user's.

Does not know: how a query is run (`data.transform`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.errors import JobError
from bedplate.core.spec import Dataset
from bedplate.data.cut import Cut, read_cut
from bedplate.data.expectations import check
from bedplate.data.query import parsed
from bedplate.data.transform import Part, Place, run_query, store_table
from bedplate.flow.lakes import lake_of
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.flow.steps.ingest import report


def work(attempt: Attempt) -> int:
    """Make the table of the versions that the attempt names. Returns 0."""
    step = StepContext(attempt)
    dataset = Dataset.model_validate(attempt.spec["dataset"])
    parts = [_part(step, name, Dataset.model_validate(values)) for name, values in attempt.spec["parts"].items()]
    place = Place(lake_of(step), attempt.out)
    if dataset.sql is not None:
        cut = run_query(attempt.step, dataset, parsed(dataset.sql, f"datasets.{attempt.step}.sql"), parts, place, step.progress("rows"))
    else:
        cut = _called(attempt, dataset, parts, place)
    report(step, cut, check(place.lake, attempt.step, cut.table_version, dataset, SystemClock().now()))
    return 0


def _part(step: StepContext, name: str, dataset: Dataset) -> Part:
    version = step.version(name)
    offsets = {int(partition): int(offset) for partition, offset in version.meta.get("offsets", {}).items()}
    return Part(name, dataset, int(version.meta["table_version"]), version.digest, offsets)


def _called(attempt: Attempt, dataset: Dataset, parts: list[Part], place: Place) -> Cut:
    function = load_function(str(dataset.python))
    given: Mapping[str, Any] = {part.name: _given(read_cut(place.lake, part.name, part.version, part.dataset)) for part in parts}
    made = function(**given)
    if not isinstance(made, pa.Table):
        raise JobError(f"{dataset.python} gives no Arrow table", value=type(made).__name__, fix="return a pyarrow.Table")
    return store_table(attempt.step, dataset, made, Path(attempt.code).name, parts, place)


def _given(cut: pa.Table) -> pa.Table:
    """What a function sees of a cut: its columns and `_known_at`."""
    return cut.select([name for name in cut.column_names if not name.startswith("_") or name == "_known_at"])
