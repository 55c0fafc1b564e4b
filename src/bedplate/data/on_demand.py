"""On-demand features: the user's own function of a row's fields and features, over the rows of a training set or of a request alike.

Does not know: where the function comes from, or where its inputs do (`data.training_set`, an endpoint's lookup).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import ColumnType
from bedplate.data.features import feature_name
from bedplate.data.keys import ARROW_TYPES

Columns = Mapping[str, "pa.Array[Any]"]


@dataclass(frozen=True)
class OnDemandView:
    """A declared on-demand view. `function` takes the columns `inputs` and returns the columns `columns`, row for row."""

    name: str
    inputs: tuple[str, ...]
    columns: tuple[tuple[str, ColumnType], ...]
    function: Callable[[Columns], Columns]

    @property
    def names(self) -> tuple[tuple[str, ColumnType], ...]:
        """The output columns with their types: `speed__kmh`."""
        return tuple((feature_name(self.name, name), kind) for name, kind in self.columns)


def apply(view: OnDemandView, columns: Columns) -> dict[str, pa.Array[Any]]:
    """What the view gives for rows whose `columns` include its inputs, by the names of its outputs.

    Raises DataError for an input that is not there, or for what the function returns: a column missing, of another length or type.
    """
    for name in view.inputs:
        if name not in columns:
            raise DataError(f"the on-demand feature {view.name!r} has no such input", value=name, fix=nearest(name, columns))
    found = view.function({name: columns[name] for name in view.inputs})
    rows = len(columns[view.inputs[0]])
    result = {}
    for (name, kind), (output, _) in zip(view.columns, view.names, strict=True):
        if name not in found:
            raise DataError(f"the function of {view.name!r} returns no such column", value=name, fix="return all that `columns` declares")
        result[output] = _fitting(found[name], kind, rows, f"{view.name}.{name}")
    return result


def _fitting(values: Any, kind: ColumnType, rows: int, what: str) -> pa.Array[Any]:
    try:
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        array = array.cast(ARROW_TYPES[kind])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        raise DataError(
            f"the function gives {what} as what is no {kind}", value=str(error), fix="return what `columns` declares"
        ) from error
    if len(array) != rows:
        raise DataError(f"the function gives {what} another length than its inputs", value=len(array), fix=f"return {rows} values")
    whole: pa.Array[Any] = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return whole
