"""What a promotion rule reads of an evaluation: a metric, a fold over the groups of a slice, the drift of a column.

Does not know: the grammar around it (`expression`), or how a value was measured.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

PRODUCTION = "production"
SLICE = "slice"
ROWS = "rows"  # how many rows a group has, beside its metrics
MEASURED = ("latency_p50_s", "latency_p90_s", "latency_p99_s", "size_bytes")  # by the gate itself, for rules that name them
FOLDS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
    "gap": lambda values: max(values) - min(values),
}
DRIFTS = ("psi", "ks")

Value = TypeVar("Value")
Slices = Mapping[str, Mapping[str, Mapping[str, float]]]  # group -> value of it -> metric


@dataclass(frozen=True)
class Metrics:
    """What a rule is judged on. What is production's is None when there is no production version.

    `slices` are metrics by group and its values; `drift` is by measure and column, as `psi(dep_delay)`.
    """

    candidate: Mapping[str, float]
    production: Mapping[str, float] | None
    slices: Slices = field(default_factory=dict)
    production_slices: Slices | None = None
    drift: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Read:
    """One value that a rule reads; `text` is how it was written, `name` the metric or the column.

    `group` and `fold` are of a slice (`only` of one of its values), `measure` of a drift.
    """

    text: str
    name: str
    production: bool = False
    group: str = ""
    fold: str = ""
    only: str = ""
    measure: str = ""

    @property
    def noun(self) -> str:
        """What it is, for an error."""
        return "drift" if self.measure else "slice" if self.group else "metric"

    @property
    def of_rows(self) -> bool:
        """Whether it may be computed from single rows, so that a difference can have a confidence."""
        return not self.measure and self.name not in MEASURED

    def value(self, metrics: Metrics) -> float | None:
        """The number; None where it depends on an absent production. Raises KeyError(name, known names)."""
        if self.measure:
            return None if metrics.production is None else _looked(metrics.drift or {}, f"{self.measure}({self.name})")
        known = metrics.production if self.production else metrics.candidate
        if known is None:
            return None
        if not self.group:
            return _looked(known, self.name)
        groups = _looked((metrics.production_slices if self.production else metrics.slices) or {}, self.group)
        if self.only:
            return _looked(_looked(groups, self.only), self.name)
        values = [_looked(measured, self.name) for measured in groups.values()]
        return math.nan if not values or any(map(math.isnan, values)) else FOLDS[self.fold](values)


def read(node: ast.expr) -> Read | None:
    """What an expression reads as a whole; None when it is no single value of an evaluation."""
    match node:
        case ast.Name(id=name) if name not in (PRODUCTION, SLICE):
            return Read(ast.unparse(node), name)
        case ast.Attribute(value=ast.Name(id="production"), attr=name) if name != SLICE:
            return Read(ast.unparse(node), name, production=True)
        case ast.Attribute(value=ast.Subscript(value=below, slice=ast.Constant(value=str() as only)), attr=name):
            group = _group(below)
            return None if group is None else Read(ast.unparse(node), name, group[1], group[0], only=only)
        case ast.Call(func=ast.Name(id=fold), args=[ast.Attribute(value=below, attr=name)], keywords=[]) if fold in FOLDS:
            group = _group(below)
            return None if group is None else Read(ast.unparse(node), name, group[1], group[0], fold=fold)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="drift"), attr=measure), args=[column], keywords=[]) if measure in DRIFTS:
            return _drift(node, measure, column)
    return None


def _drift(node: ast.expr, measure: str, column: ast.expr) -> Read | None:
    match column:
        case ast.Name(id=name) | ast.Constant(value=str() as name):
            return Read(ast.unparse(node), name, measure=measure)
    return None


def _group(node: ast.expr) -> tuple[str, bool] | None:
    """The group of `slice.GROUP`, and whether it is production's."""
    match node:
        case ast.Attribute(value=ast.Name(id="slice"), attr=group):
            return group, False
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="production"), attr="slice"), attr=group):
            return group, True
    return None


def _looked(known: Mapping[str, Value], name: str) -> Value:
    if name not in known:
        raise KeyError(name, tuple(known))
    return known[name]
