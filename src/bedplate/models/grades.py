"""What `evaluate` returned: metrics, metrics by group, and results row by row from which both can be computed again.

Of a column of rows, text is a group and numbers are what each row contributes to the metric of that name: a metric named `rmse` (or
`*_rmse`) is the root of the mean square of its rows, `mae` (or `*_mae`) the mean of their absolute values, any other their mean.
Does not know: the user's function, rules, or where a version came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.errors import JobError
from bedplate.models.reading import ROWS, Slices

AGREES = 1e-3  # relative: what `evaluate` says of a metric, against what its rows say (floats of 4 bytes, sums in another order)
_FIX = 'return {"rmse": 12.3}, with "slices" or "rows" beside it'

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """The groups of rows by one column: `codes` index `names`, shape [rows]."""

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowResults:
    """Results by row: `shares` float64 [rows] by metric, already squared or absolute where the metric's name asks for it."""

    rows: int
    shares: Mapping[str, Floats]
    groups: Mapping[str, Group]

    def metric(self, name: str, weights: Floats | None = None) -> float:
        """A metric over all rows; `weights` float64 [rows] says how often each counts."""
        total = self.rows if weights is None else float(weights.sum())
        share = self.shares[name]
        return _finished(name, float(share.sum() if weights is None else weights @ share) / total) if total else math.nan

    def by_group(self, group: str, name: str, weights: Floats | None = None) -> dict[str, float]:
        """A metric for each value of a group that has rows."""
        known = self.groups[group]
        count = np.bincount(known.codes, weights, len(known.names))
        share = self.shares[name] if weights is None else self.shares[name] * weights
        total = np.bincount(known.codes, share, len(known.names))
        return {each: _finished(name, total[code] / count[code]) for code, each in enumerate(known.names) if count[code]}

    def slices(self) -> dict[str, dict[str, dict[str, float]]]:
        """Every metric by every group, with the number of rows of each value."""
        found: dict[str, dict[str, dict[str, float]]] = {}
        for group, known in self.groups.items():
            counts = np.bincount(known.codes, minlength=len(known.names))
            found[group] = {value: {ROWS: float(count)} for value, count in zip(known.names, counts, strict=True) if count}
            for name in self.shares:
                for value, measured in self.by_group(group, name).items():
                    found[group][value][name] = measured
        return found


@dataclass(frozen=True)
class Grades:
    """What is known of one version: metrics, slices (group -> value -> metric), and rows when `evaluate` gave them."""

    metrics: Mapping[str, float]
    slices: Slices = field(default_factory=dict)
    rows: RowResults | None = None


def grades(result: Any) -> Grades:
    """The grades that `evaluate` returned. Raises JobError, naming the piece, for what is none."""
    if not isinstance(result, Mapping) or not result:
        raise JobError("evaluate must return a mapping of metric names to numbers", value=result, fix=_FIX)
    given = {name: value for name, value in result.items() if name in ("slices", "rows") and not isinstance(value, int | float)}
    rows = _rows(given["rows"]) if given.get("rows") is not None else None
    metrics = {name: _number(f"the metric {name!r}", value) for name, value in result.items() if name not in given}
    of_rows = {name: rows.metric(name) for name in rows.shares} if rows is not None else {}
    for name, value in of_rows.items():
        if name in metrics and not math.isclose(metrics[name], value, rel_tol=AGREES, abs_tol=1e-9):
            fix = "give each row's error for rmse and mae (not its square), and each row's contribution to a mean for others"
            raise JobError(f"the metric {name!r} is not what its rows give", value=[metrics[name], value], fix=fix)
    metrics = {**of_rows, **metrics}
    if not metrics:
        raise JobError("evaluate must return a mapping of metric names to numbers", value=list(result), fix=_FIX)
    slices = {**(rows.slices() if rows is not None else {}), **_slices(given.get("slices") or {})}
    return Grades(metrics, slices, rows)


def _number(what: str, value: Any) -> float:
    plain = value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value
    if isinstance(plain, bool) or not isinstance(plain, int | float) or not math.isfinite(plain):
        raise JobError(f"{what} is not a finite number", value=value, fix="return plain finite floats from evaluate")
    return float(plain)


def _slices(given: Any) -> dict[str, dict[str, dict[str, float]]]:
    fix = 'return {"slices": {"carrier": {"AA": {"rmse": 12.3}}}}'
    if not isinstance(given, Mapping):
        raise JobError("slices must be a mapping of groups", value=given, fix=fix)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for group, values in given.items():
        if not isinstance(values, Mapping) or not all(isinstance(measured, Mapping) for measured in values.values()):
            raise JobError(f"the slice {group!r} must map values to metrics", value=values, fix=fix)
        found[str(group)] = {
            str(value): {str(name): _number(f"{name!r} of {group}={value}", number) for name, number in measured.items()}
            for value, measured in values.items()
        }
    return found


def _rows(given: Any) -> RowResults:
    fix = 'return {"rows": {"rmse": errors, "carrier": carriers}}, one array or list each, all as long as the test split'
    if not isinstance(given, Mapping) or not given:
        raise JobError("rows must be a mapping of columns", value=given, fix=fix)
    columns = {str(name): np.asarray(_plain(values)) for name, values in given.items()}
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or any(column.ndim != 1 or not len(column) for column in columns.values()):
        raise JobError("the columns of rows must be of one length", value=lengths, fix=fix)
    texts = {name for name, column in columns.items() if column.dtype.kind in "OUS"}
    shares = {name: _share(name, column) for name, column in columns.items() if name not in texts}
    groups = {name: _group(columns[name]) for name in columns if name in texts}
    if not shares:
        raise JobError("rows have no column of numbers", value=sorted(columns), fix=fix)
    return RowResults(len(next(iter(columns.values()))), shares, groups)


def _plain(values: Any) -> Any:
    """Arrays of torch and Arrow as numpy's."""
    for name in ("numpy", "to_pylist"):
        if hasattr(values, name):
            return getattr(values, name)()
    return values


def _share(name: str, column: npt.NDArray[Any]) -> Floats:
    if column.dtype.kind not in "biuf" or not np.isfinite(column).all():
        raise JobError(f"the rows of {name!r} are not all finite numbers", value=str(column.dtype), fix="give one finite number a row")
    numbers = column.astype(np.float64)
    return numbers**2 if _is(name, "rmse") else np.abs(numbers) if _is(name, "mae") else numbers


def _finished(name: str, mean: float) -> float:
    return math.sqrt(mean) if _is(name, "rmse") else float(mean)


def _is(name: str, kind: str) -> bool:
    return name == kind or name.endswith(f"_{kind}")


def _group(column: Sequence[Any] | npt.NDArray[Any]) -> Group:
    names, codes = np.unique(np.array(list(_texts(column))), return_inverse=True)
    return Group(tuple(map(str, names)), codes.astype(np.int64).reshape(-1))


def _texts(column: Iterable[Any]) -> Iterable[str]:
    for value in column:
        yield "null" if value is None else value.decode() if isinstance(value, bytes) else str(value)
