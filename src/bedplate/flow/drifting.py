"""Drift between two versions of a dataset's table, column by column.

Of a stream, whose later versions hold all rows of the earlier ones, the rows that came since are compared with those before; of anything
else, all rows of both. The `subject` and the system's own columns are left out.
Does not know: how drift is measured (`models.drift_report`) or shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.core.spec import Dataset
from bedplate.data.cut import read_cut
from bedplate.flow.data_versions import Named, named
from bedplate.flow.lakes import lake_of
from bedplate.flow.workspace import Workspace
from bedplate.models.drift_report import ColumnDrift, of_numbers, of_texts


@dataclass(frozen=True)
class Drift:
    """Two samples by name and number of rows, and how each column that both have moved. `since`: of the latter only the rows that came."""

    before: str
    after: str
    rows: tuple[int, int]
    since: bool
    columns: tuple[ColumnDrift, ...]


def drift(workspace: Workspace, before: str, after: str) -> Drift:
    """How a dataset moved from one version to another, named as `data_versions` says.

    Raises NotFound for what is not there and BedplateError for versions of two tables.
    """
    old, new = named(workspace, before), named(workspace, after)
    if old.table != new.table:
        raise BedplateError("drift is between two versions of one table", value=new.table, fix=f"name a version of {old.table}")
    datasets = workspace.project.spec.datasets
    if old.table not in datasets:
        raise NotFound("the project declares no such dataset", value=old.table, fix=nearest(old.table, datasets))
    dataset, lake = datasets[old.table], lake_of(workspace)
    since = _since(dataset, old, new)
    sides = read_cut(lake, old.table, old.commit, dataset), read_cut(lake, new.table, new.commit, dataset, since)
    names = [name for name in sides[0].column_names if name in sides[1].column_names and name != dataset.subject and name[0] != "_"]
    columns = tuple(_column(name, *(side[name] for side in sides)) for name in names)
    return Drift(old.ref, new.ref, (sides[0].num_rows, sides[1].num_rows), since is not None, columns)


def _since(dataset: Dataset, old: Named, new: Named) -> dict[int, int] | None:
    if dataset.topic is None or old.version is None or new.version is None or old.version.number >= new.version.number:
        return None
    return {int(partition): offset for partition, offset in old.version.meta.get("offsets", {}).items()}


def _column(name: str, before: pa.ChunkedArray[Any], after: pa.ChunkedArray[Any]) -> ColumnDrift:
    if pat.is_string(before.type) or pat.is_boolean(before.type) or before.type != after.type:
        return of_texts(name, _counted(before), _counted(after))
    if pat.is_timestamp(before.type):
        return of_numbers(name, _numbers(before, pa.int64()) / 1e6, _numbers(after, pa.int64()) / 1e6, "time")
    return of_numbers(name, _numbers(before, before.type), _numbers(after, after.type))


def _numbers(values: pa.ChunkedArray[Any], stored: pa.DataType) -> npt.NDArray[np.float64]:
    """Values as floats, NaN for null; of a timestamp microseconds."""
    return np.asarray(values.cast(stored).cast(pa.float64()).to_numpy(), np.float64)


def _counted(values: pa.ChunkedArray[Any]) -> Counter[str | None]:
    table = pa.table({"value": values.cast(pa.string())}).group_by("value").aggregate([([], "count_all")])
    return Counter(dict(zip(table["value"].to_pylist(), table["count_all"].to_pylist(), strict=True)))
