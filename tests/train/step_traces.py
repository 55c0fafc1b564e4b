"""Synthetic step traces: pipelines of one forward and one backward at a time, played event by event, with what is slow planted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def order(stage: int, stages: int, micro_batches: int) -> list[tuple[str, int]]:
    """One forward, one backward: what a stage does, in its order."""
    ahead = min(stages - stage, micro_batches)
    found = [("forward", index) for index in range(ahead)]
    for index in range(micro_batches):
        found.append(("backward", index))
        if index + ahead < micro_batches:
            found.append(("forward", index + ahead))
    return found


def synthetic(
    stages: int,
    replicas: int,
    micro_batches: int,
    steps: int,
    *,
    seed: int = 0,
    jitter: float = 0.02,
    slow: dict[int, float] | None = None,
    stage_factor: dict[int, float] | None = None,
    sync_s: float = 0.01,
    send_s: float = 0.0,
) -> tuple[pa.Table, float]:
    """A trace, and how long it takes from its first to its last operation, step by step. `slow` maps a worker to a factor.

    Workers are numbered replica * stages + stage. Forward takes 10 ms, backward 20 ms.
    """
    random = np.random.default_rng(seed)
    instances = steps * replicas
    factor = np.ones((replicas, stages))
    for worker, times in (slow or {}).items():
        factor[divmod(worker, stages)] *= times
    for stage, times in (stage_factor or {}).items():
        factor[:, stage] *= times
    factors = np.tile(factor, (steps, 1))
    done: dict[tuple[str, int, int], np.ndarray] = {}
    begun: dict[tuple[str, int, int], np.ndarray] = {}
    free = np.zeros((stages, instances))
    orders = [order(stage, stages, micro_batches) for stage in range(stages)]
    at = [0] * stages
    while any(place < len(each) for place, each in zip(at, orders, strict=True)):
        for stage in range(stages):
            while at[stage] < len(orders[stage]):
                kind, index = orders[stage][at[stage]]
                other = stage - 1 if kind == "forward" else stage + 1
                need = (kind, other, index)
                if kind == "backward" and stage == stages - 1:
                    need = ("forward", stage, index)
                if not (kind == "forward" and stage == 0) and need not in done:
                    break
                ready = done[need] + (send_s if need[1] != stage else 0.0) if need in done else np.zeros(instances)
                length = (0.01 if kind == "forward" else 0.02) * factors[:, stage] * random.lognormal(0, jitter, instances)
                begun[kind, stage, index] = np.maximum(free[stage], ready)
                free[stage] = done[kind, stage, index] = begun[kind, stage, index] + length
                at[stage] += 1
    ends = free.reshape(stages, steps, replicas).max(axis=2) + sync_s
    lengths = ends.max(axis=0)
    offset = np.repeat(np.concatenate([[0.0], np.cumsum(lengths)[:-1]]), replicas)
    step, replica = np.repeat(np.arange(steps), replicas), np.tile(np.arange(replicas), steps)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("worker", "stage", "microbatch", "operation", "start", "end", "step")}

    def add(kind: str, stage: int, index: int, start: np.ndarray, end: np.ndarray) -> None:
        columns["worker"].append(replica * stages + stage)
        columns["stage"].append(np.full(instances, stage))
        columns["microbatch"].append(np.full(instances, index))
        columns["operation"].append(np.full(instances, ["forward", "backward", "grads-sync"].index(kind)))
        columns["start"].append(start + offset)
        columns["end"].append(end + offset)
        columns["step"].append(step)

    for (kind, stage, index), end in done.items():
        add(kind, stage, index, begun[kind, stage, index], end)
    if sync_s:
        for stage in range(stages):
            add("grads-sync", stage, 0, free[stage], np.repeat(ends[stage], replicas))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    names = pa.array(["forward", "backward", "grads-sync"])
    joined_names = pa.DictionaryArray.from_arrays(pa.array(joined.pop("operation")), names).dictionary_decode()
    return pa.table({**joined, "operation": joined_names}), float(lengths.sum())
