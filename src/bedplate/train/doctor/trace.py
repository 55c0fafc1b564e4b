"""A step trace given as a table: which worker did which operation of which micro-batch, from when to when.

Does not know: what a slow operation costs the whole (`what_if`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bedplate.core.errors import BedplateError
from bedplate.train.doctor.measured import Array, Indices

COLUMNS: Final = ("worker", "stage", "microbatch", "operation", "start", "end")
OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "worker": ("rank", "worker_id"),
    "stage": ("pp_rank", "pp", "pipeline_stage"),
    "microbatch": ("micro_batch", "microbatch_id", "mb"),
    "operation": ("op", "name", "kind"),
    "start": ("start_s", "begin", "ts"),
    "end": ("end_s", "finish"),
    "step": ("step_id", "iteration"),
    "replica": ("dp_rank", "dp", "data_rank"),
}
FORWARD, BACKWARD, SEND, RECEIVE, SYNC, OTHER = range(6)
KINDS: Final = ("forward", "backward", "send", "receive", "sync", "other")
DENSE: Final = 10_000_000  # integers in a smaller range are numbered by a table of them
_SYNCS: Final = ("sync", "reduce", "gather", "broadcast", "barrier")


@dataclass(frozen=True)
class Trace:
    """One row an operation, by step, replica, worker and start. Times are seconds; workers, stages and replicas are numbered from 0.

    `workers` names each worker; `worker` is its number. `name` indexes `names`, `kind` is one of KINDS' indices. `backwards` marks sends
    and receives of gradients.
    """

    worker: Indices
    stage: Indices
    micro_batch: Indices
    name: Indices
    kind: Indices
    step: Indices
    replica: Indices
    backwards: npt.NDArray[np.bool_]
    start_s: Array
    end_s: Array
    names: tuple[str, ...]
    workers: tuple[str, ...]


def read_trace(path: Path) -> Trace:
    """Read a .csv or .parquet file. Raises BedplateError for another kind of file, a missing column, or times that are no times."""
    if path.suffix not in (".csv", ".parquet"):
        raise BedplateError("a step trace is a .parquet or a .csv file", value=path.name, fix="give --trace a table of one of these kinds")
    try:
        table = pa.csv.read_csv(path) if path.suffix == ".csv" else pa.parquet.read_table(path)
    except pa.ArrowException as error:
        raise BedplateError(
            "the step trace cannot be read", value=str(error).splitlines()[0], fix=f"columns: {', '.join(COLUMNS)}"
        ) from error
    return trace_of(table)


def trace_of(table: pa.Table) -> Trace:
    """The trace in a table with the columns of COLUMNS, and optionally `step` and `replica` (also `dp_rank`); times in seconds.

    Without `step` all of it is one; without `replica` the n-th worker of every stage makes the n-th replica.
    Raises BedplateError for a missing column, and for times that are no times.
    """
    given = {name.lower().replace(" ", "_"): name for name in table.column_names}
    found = {name: next((given[each] for each in (name, *OTHER_NAMES[name]) if each in given), None) for name in OTHER_NAMES}
    for wanted in COLUMNS:
        if found[wanted] is None:
            raise BedplateError("the step trace has no such column", value=wanted, fix=f"it has {', '.join(table.column_names)}")
    if not table.num_rows:
        raise BedplateError("the step trace has no rows")
    columns = {name: column for name, column in found.items() if column is not None}
    workers, worker = _coded(table, columns["worker"])
    names, name = _coded(table, columns["operation"])
    start_s, end_s = _times(table, columns["start"]), _times(table, columns["end"])
    if not np.isfinite(start_s).all() or not np.isfinite(end_s).all() or (end_s < start_s).any():
        raise BedplateError("the step trace has an operation that ends before it starts, or without a time")
    stage = _coded(table, columns["stage"])[1]
    step = _coded(table, columns["step"])[1] if "step" in columns else np.zeros(table.num_rows, np.int64)
    replica = _coded(table, columns["replica"])[1] if "replica" in columns else _replicas(worker, stage)
    spoken = [each.lower().replace("-", "_").replace(" ", "_") for each in names]
    kinds = np.array([_kind(each) for each in spoken])
    backwards = np.array(["back" in each or "bwd" in each or "grad" in each for each in spoken])
    place = (step * (int(replica.max()) + 1) + replica) * len(workers) + worker
    order = np.lexsort((start_s, place))
    micro_batch = _coded(table, columns["microbatch"])[1]
    return Trace(
        worker=worker[order],
        stage=stage[order],
        micro_batch=micro_batch[order],
        name=name[order],
        kind=kinds[name][order],
        step=step[order],
        replica=replica[order],
        backwards=backwards[name][order],
        start_s=start_s[order],
        end_s=end_s[order],
        names=tuple(names),
        workers=tuple(workers),
    )


def _kind(name: str) -> int:
    if "send" in name:
        return SEND
    if "recv" in name or "receive" in name:
        return RECEIVE
    if any(word in name for word in _SYNCS):
        return SYNC
    if name in ("f", "fwd") or name.startswith(("forward", "fwd_")):
        return FORWARD
    if name in ("b", "bwd") or name.startswith(("backward", "bwd_")):
        return BACKWARD
    return OTHER


def _coded(table: pa.Table, column: str) -> tuple[list[str], Indices]:
    """The values of a column in their order, and the number of each row's."""
    values = table.column(column).combine_chunks().to_numpy(zero_copy_only=False)
    if values.dtype.kind in "iu" and int(values.max()) - int(values.min()) < DENSE:
        low = int(values.min())
        there = np.bincount(values - low) > 0
        return [str(value + low) for value in np.flatnonzero(there)], (np.cumsum(there) - 1)[values - low]
    if values.dtype.kind in "iuf":
        known, codes = np.unique(np.nan_to_num(values, nan=-1), return_inverse=True)
        return [f"{value:g}" if values.dtype.kind == "f" else str(value) for value in known], codes.astype(np.int64)
    encoded = table.column(column).combine_chunks().dictionary_encode()
    texts = ["" if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    place = {text: number for number, text in enumerate(sorted(texts))}
    indices = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return sorted(texts), np.array([place[text] for text in texts], dtype=np.int64)[indices]


def _times(table: pa.Table, column: str) -> Array:
    try:
        return np.asarray(table.column(column).cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowException as error:
        raise BedplateError("a time of the step trace is no number of seconds", value=column, fix="give seconds") from error


def _replicas(worker: Indices, stage: Indices) -> Indices:
    """Number the workers of every stage; a worker with several stages counts at its first."""
    first = np.full(int(worker.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, worker, stage)
    number = np.zeros_like(first)
    for each in np.unique(first):
        mine = np.flatnonzero(first == each)
        number[mine] = np.arange(len(mine))
    return number[worker]
