"""Searching runs: a filter and an order of the expression language as SQL over the index, and runs in MLflow's form.

Does not know: who asks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bedplate.models.tracking.index import Index
from bedplate.models.tracking.language import Comparison, Order
from bedplate.models.tracking.refusal import number_json

_COLUMNS = "number, id, experiment, name, user, status, start_ms, end_ms, lifecycle, artifact_uri"
_ATTRIBUTES = {
    "run_id": "r.id",
    "run_name": "r.name",
    "user_id": "r.user",
    "status": "r.status",
    "artifact_uri": "r.artifact_uri",
    "lifecycle_stage": "r.lifecycle",
    "experiment_id": "r.experiment",
    "start_time": "r.start_ms",
    "end_time": "r.end_ms",
}
_DATASETS = {"name": "d.name", "digest": "d.digest", "context": "d.context"}
_AT_ONCE = 500

Values = list[Any]


def find(
    index: Index,
    experiments: Sequence[str] | None,
    lifecycles: Sequence[str],
    comparisons: Sequence[Comparison],
    orders: Sequence[Order],
    size: int,
    offset: int = 0,
) -> list[int]:
    """The numbers of the runs that match, ordered, at most `size` from `offset` on. `experiments` None means all.

    Without an order, and among equals: the newest first, then by id. What has no value comes last, NaN just before it.
    """
    values: Values = []
    where = [_is_in("r.lifecycle", lifecycles, values)]
    if experiments is not None:
        where.append(_is_in("r.experiment", experiments, values))
    where += [_condition(comparison, values) for comparison in comparisons]
    joins, order_values, by = [], list[Any](), []
    for place, order in enumerate(orders):
        joins.append(_join(order, place, order_values))
        by += _by(order, place)
    query = (
        f"SELECT r.number FROM runs r {' '.join(joins)} WHERE {' AND '.join(where)} "  # noqa: S608 - values are bound
        f"ORDER BY {', '.join([*by, 'r.start_ms DESC', 'r.id'])} LIMIT ? OFFSET ?"
    )
    return [number for (number,) in index.database.execute(query, [*order_values, *values, size, offset])]


def _is_in(column: str, among: Sequence[str], values: Values) -> str:
    values += among
    return f"{column} IN ({', '.join('?' * len(among))})"


def _condition(comparison: Comparison, values: Values) -> str:
    kind, key, operator, value = comparison
    if kind == "attributes":
        return _compared(_ATTRIBUTES[key], operator, value, values)
    if kind == "datasets":
        inner = _compared(_DATASETS.get(key, "d.name"), operator, value, values)
        return f"EXISTS (SELECT 1 FROM datasets d WHERE d.run = r.number AND {inner})"  # noqa: S608 - values are bound
    values.append(key)
    if operator in ("IS NULL", "IS NOT NULL"):
        negated = "NOT " if operator == "IS NULL" else ""
        return f"{negated}EXISTS (SELECT 1 FROM {kind} v WHERE v.run = r.number AND v.key = ?)"  # noqa: S608 - `kind` is one of three
    inner = _compared("v.value", operator, value, values)
    return f"r.number IN (SELECT v.run FROM {kind} v WHERE v.key = ? AND {inner})"  # noqa: S608 - `kind` is one of three


def _compared(column: str, operator: str, value: Any, values: Values) -> str:
    if operator in ("IN", "NOT IN"):
        values += value
        return f"{column} {operator} ({', '.join('?' * len(value))})"
    if operator == "LIKE":
        values.append(_glob(value))
        return f"{column} GLOB ?"
    values.append(value)
    return f"{column} LIKE ?" if operator == "ILIKE" else f"{column} {operator} ?"


def _glob(pattern: str) -> str:
    """An SQL pattern as SQLite's GLOB has it, which tells small letters from capital ones."""
    return "".join({"%": "*", "_": "?"}.get(each, f"[{each}]" if each in "*?[" else each) for each in pattern)


def _join(order: Order, place: int, values: Values) -> str:
    if order.kind not in ("metrics", "params", "tags"):
        return ""
    values.append(order.key)
    return f"LEFT JOIN {order.kind} o{place} ON o{place}.run = r.number AND o{place}.key = ?"


def _by(order: Order, place: int) -> list[str]:
    direction = "ASC" if order.ascending else "DESC"
    if order.kind == "attributes":
        column = _ATTRIBUTES[order.key]
        return [f"{column} IS NULL", f"{column} {direction}"]
    if order.kind == "datasets":
        return []
    return [f"o{place}.run IS NULL", f"o{place}.value IS NULL", f"o{place}.value {direction}"]


def runs(index: Index, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Runs in MLflow's form, in the order of `numbers`."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(numbers), _AT_ONCE):
        found |= _runs(index, numbers[start : start + _AT_ONCE])
    return [found[number] for number in numbers if number in found]


def _runs(index: Index, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
    marks = ", ".join("?" * len(numbers))
    execute = index.database.execute
    found: dict[int, dict[str, Any]] = {}
    for row in execute(f"SELECT {_COLUMNS} FROM runs WHERE number IN ({marks})", numbers):  # noqa: S608 - marks only
        found[row[0]] = {"info": info(row), "data": {}, "inputs": {}, "outputs": {}}
    for part in ("params", "tags"):
        for number, key, value in execute(f"SELECT run, key, value FROM {part} WHERE run IN ({marks})", numbers):  # noqa: S608 - of two
            found[number]["data"].setdefault(part, []).append({"key": key, "value": value})
    query = f"SELECT run, key, value, at_ms, step FROM metrics WHERE run IN ({marks})"  # noqa: S608 - marks only
    for number, key, value, at_ms, step in execute(query, numbers):
        point = {"key": key, "value": number_json(float("nan") if value is None else value), "timestamp": at_ms, "step": step}
        found[number]["data"].setdefault("metrics", []).append(point)
    for number, body in execute(f"SELECT run, body FROM datasets WHERE run IN ({marks})", numbers):  # noqa: S608 - marks only
        found[number]["inputs"].setdefault("dataset_inputs", []).append(_dataset(json.loads(body)))
    for number, model, direction, step in execute(f"SELECT run, model, direction, step FROM run_models WHERE run IN ({marks})", numbers):  # noqa: S608 - marks only
        told = {"model_id": model} if direction == "in" else {"model_id": model, "step": step}
        found[number]["inputs" if direction == "in" else "outputs"].setdefault(f"model_{direction}puts", []).append(told)
    return found


def info(row: Sequence[Any]) -> dict[str, Any]:
    """A row of runs as MLflow's RunInfo."""
    _, identity, experiment, name, user, status, start_ms, end_ms, lifecycle, uri = row
    return {
        "run_uuid": identity,
        "run_id": identity,
        "run_name": name,
        "experiment_id": experiment,
        "user_id": user,
        "status": status,
        "start_time": start_ms,
        **({"end_time": end_ms} if end_ms is not None else {}),
        "artifact_uri": uri,
        "lifecycle_stage": lifecycle,
    }


def info_of(index: Index, number: int) -> dict[str, Any]:
    """RunInfo of one run."""
    return info(index.database.execute(f"SELECT {_COLUMNS} FROM runs WHERE number = ?", (number,)).fetchone())  # noqa: S608 - constant


def _dataset(used: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": used["dataset"], "tags": [{"key": key, "value": value} for key, value in used.get("tags", {}).items()]}


def kind_of(index: Index, number: int) -> str:
    """`logged` for a run of a client, else the kind of bedplate's step."""
    return str(index.database.execute("SELECT kind FROM runs WHERE number = ?", (number,)).fetchone()[0])


def datasets(index: Index, experiments: Sequence[str]) -> list[dict[str, Any]]:
    """The datasets that runs of some experiments read, each once per experiment."""
    marks = ", ".join("?" * len(experiments))
    chosen = f"r.lifecycle = 'active' AND r.experiment IN ({marks})"
    joined = "datasets d JOIN runs r ON r.number = d.run"
    query = f"SELECT DISTINCT r.experiment, d.name, d.digest, d.context FROM {joined} WHERE {chosen} ORDER BY 1, 2, 3"  # noqa: S608 - marks only
    rows = index.database.execute(query, experiments)
    return [
        {"experiment_id": experiment, "name": name, "digest": digest, **({"context": context} if context else {})}
        for experiment, name, digest, context in rows
    ]
