"""A seeded simulator of training runs: what each rank does in each step, written down by the real timers under a clock of its own.

It knows nothing of the doctor's model: ranks wait where a step makes them, pipelines are simulated operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bedplate.train.doctor.measured import Measured, Profile, Reference, measured
from bedplate.train.mesh import Mesh
from bedplate.train.timers import Timers

MTBF_S = 24 * 3600.0


@dataclass(frozen=True)
class Scenario:
    """A run as it is. Seconds are of one step of one rank; `jitter` is the relative standard deviation of each part."""

    seed: int
    data: int = 4
    pipeline: int = 1
    micro_batches: int = 1
    steps: int = 200
    compute_s: float = 0.05
    optimizer_s: float = 0.002
    host_s: float = 0.0005
    input_s: float = 0.0004
    link_s: float = 0.002
    jitter: float = 0.02
    checkpoint_s: float = 0.03
    checkpoint_every: int = 10**9
    loader_s: float = 0.0
    loader_every: int = 1
    slow: dict[int, float] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    delayed: dict[int, float] = field(default_factory=dict)
    kernels_s: float = 0.0
    launches: float = 0.0
    launch_s: float = 0.0
    memory_s: float = 0.0
    chain: float = 1.0
    reference: Reference = field(default_factory=Reference)

    @property
    def mesh(self) -> Mesh:
        return Mesh(data=self.data, pipeline=self.pipeline, micro_batches=self.micro_batches if self.pipeline > 1 else None)


@dataclass(frozen=True)
class Timeline:
    """What a simulated run wrote: rows by rank; how long a step took after the first ones."""

    scenario: Scenario
    rows: list[list[dict[str, Any]]]
    step_s: float
    checkpoints: int

    def measured(self) -> Measured:
        scenario = self.scenario
        profile = None
        if scenario.launches:
            kernels_s = scenario.kernels_s or scenario.compute_s
            profile = Profile(scenario.launches, scenario.launch_s, kernels_s, scenario.memory_s, scenario.chain, steps=10)
        found = measured(self.rows, scenario.mesh, checkpoints=self.checkpoints, profile=profile, reference=scenario.reference)
        assert found is not None
        return found


def simulate(scenario: Scenario) -> Timeline:
    """Run it."""
    random = np.random.default_rng(scenario.seed)
    ranks, steps = scenario.mesh.world_size, scenario.steps
    parts = _parts(scenario, random, ranks, steps)
    own = parts["host"] + parts["input"]
    if scenario.pipeline == 1:
        arrive = own + parts["compute"] + np.vstack([np.zeros(ranks), parts["optimizer"][:-1]])
        flowing = parts["compute"]
        sync = arrive.max(axis=1, keepdims=True) + parts["link"][:, None]
        parts["communication"] = sync - arrive
    else:
        flowing = np.zeros((steps, ranks))
        for replica in range(scenario.data):
            mine = [rank for rank in range(ranks) if scenario.mesh.coordinates(rank).data == replica]
            flowing[:, mine] = _one_forward_one_backward(parts["compute"][:, mine], scenario.micro_batches, random, scenario.jitter)[
                :, None
            ]
        whole = (own + parts["optimizer"] + flowing).max(axis=1, keepdims=True) + parts["link"][:, None]
        parts["communication"] = whole - own - parts["optimizer"] - parts["compute"]
    parts["checkpoint"] = np.zeros((steps, ranks))
    written = np.arange(scenario.checkpoint_every, steps, scenario.checkpoint_every)
    parts["checkpoint"][written] = scenario.checkpoint_s
    rows = [_written({name: part[:, rank] for name, part in parts.items() if name != "link"}) for rank in range(ranks)]
    late = slice(min(50, max(2, round(0.05 * steps))), None)
    total = sum(part[late].mean(axis=1) for name, part in parts.items() if name not in ("link", "delay"))
    return Timeline(scenario, rows, float(np.mean(total)), int((written >= (late.start or 0)).sum()))


def _parts(scenario: Scenario, random: np.random.Generator, ranks: int, steps: int) -> dict[str, np.ndarray]:
    def drawn(mean_s: float, spread: float) -> np.ndarray:
        return mean_s * random.lognormal(-spread * spread / 2, spread, (steps, ranks))

    compute_s = max(scenario.kernels_s or scenario.compute_s, scenario.launches * scenario.launch_s)
    compute = drawn(compute_s, scenario.jitter)
    for rank, factor in scenario.slow.items():
        compute[:, rank] *= factor
    if scenario.weights:
        compute *= np.array([scenario.weights[scenario.mesh.coordinates(rank).pipeline] for rank in range(ranks)])
    delay = np.zeros((steps, ranks))
    for rank in range(ranks):
        mean_s = scenario.delayed.get(rank, 0.0) + 0.002 * scenario.compute_s
        delay[:, rank] = random.gamma(2.0, mean_s / 2.0, steps)  # time slices that others got
    inputs = drawn(scenario.input_s, 0.3)
    inputs[:: scenario.loader_every] += drawn(scenario.loader_s * scenario.loader_every, 0.2)[:: scenario.loader_every]
    compute[0] *= 5  # the first step is never like the others
    return {
        "host": drawn(scenario.host_s, 0.2),
        "input": inputs,
        "compute": compute + delay,
        "optimizer": drawn(scenario.optimizer_s, scenario.jitter),
        "link": scenario.link_s * random.lognormal(-0.005, 0.1, steps),
        "delay": delay,
    }


def _one_forward_one_backward(compute: np.ndarray, micro_batches: int, random: np.random.Generator, jitter: float) -> np.ndarray:
    """How long the pipeline takes in each step, from the compute [steps, stages] of each: every operation waits for what it needs."""
    steps, stages = compute.shape
    forward, backward = compute / micro_batches / 3, 2 * compute / micro_batches / 3
    free = np.zeros((stages, steps))
    done: dict[tuple[str, int, int], np.ndarray] = {}
    orders = [_order(stage, stages, micro_batches) for stage in range(stages)]
    at = [0] * stages
    while any(place < len(order) for place, order in zip(at, orders, strict=True)):
        for stage in range(stages):
            while at[stage] < len(orders[stage]):
                kind, micro_batch = orders[stage][at[stage]]
                source = (kind, stage - 1 if kind == "F" else stage + 1, micro_batch)
                edge = stage == 0 if kind == "F" else stage == stages - 1
                need = (("F", stage, micro_batch) if kind == "B" else None) if edge else source
                if need is not None and need not in done:
                    break
                ready = done[need] if need is not None else np.zeros(steps)
                length = (forward if kind == "F" else backward)[:, stage] * random.lognormal(0, jitter, steps)
                free[stage] = done[kind, stage, micro_batch] = np.maximum(free[stage], ready) + length
                at[stage] += 1
    return free.max(axis=0)


def _order(stage: int, stages: int, micro_batches: int) -> list[tuple[str, int]]:
    ahead = min(stages - stage, micro_batches)
    order = [("F", index) for index in range(ahead)]
    for index in range(micro_batches):
        order.append(("B", index))
        if index + ahead < micro_batches:
            order.append(("F", index + ahead))
    return order


def _written(parts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One rank's parts as its timers write them down."""
    now = [0.0]
    waited = [0.0]
    timers = Timers(lambda: now[0], lambda: {"wall_s": now[0]}, lambda: waited[0])
    timers.begin()
    rows: list[dict[str, Any]] = []
    columns = {name: part.tolist() for name, part in parts.items()}
    inside = [name for name in ("input", "compute", "communication", "optimizer") if name in columns]
    for step, host_s in enumerate(columns["host"]):
        now[0] += host_s
        for name in inside:
            with timers.span(name):
                now[0] += columns[name][step]
        waited[0] += columns["delay"][step]
        if columns["checkpoint"][step]:
            with timers.span("checkpoint"):
                now[0] += columns["checkpoint"][step]
        timers.end_step(step + 1)
        rows += timers.drain()
    return rows + timers.drain(last=True)


def clean(seed: int, *, pipeline: bool | None = None) -> Scenario:
    """A healthy run: some size, some speed, some noise, and nothing that stands out."""
    random = np.random.default_rng((seed, 1))
    stages = int(random.choice([2, 4])) if (random.random() < 0.3 if pipeline is None else pipeline) else 1
    data = int(random.choice([1, 2])) if stages > 1 else int(random.choice([1, 2, 4, 8]))
    compute_s = float(np.exp(random.uniform(np.log(0.006), np.log(0.3))))
    link_s = compute_s * float(random.uniform(0.01, 0.06)) if data * stages > 1 else 0.0
    even = 1 + random.uniform(-0.015, 0.015, stages)
    launch_s = float(random.uniform(3e-6, 8e-6))
    known_s = link_s * float(random.uniform(0.85, 1.15))
    return Scenario(
        seed=seed,
        data=data,
        pipeline=stages,
        micro_batches=16 * stages if stages > 1 else 1,
        steps=int(random.integers(120, 320)),
        compute_s=compute_s,
        optimizer_s=compute_s * float(random.uniform(0.01, 0.06)),
        host_s=compute_s * float(random.uniform(0.001, 0.01)),
        input_s=compute_s * float(random.uniform(0.0005, 0.01)),
        link_s=link_s,
        jitter=float(random.uniform(0.005, 0.04)),
        checkpoint_s=float(random.uniform(0.2, 0.9)) * compute_s,
        checkpoint_every=int(random.integers(100, 400)),
        weights=tuple((even / even.mean()).tolist()) if stages > 1 else (),
        launches=compute_s * float(random.uniform(0.2, 0.7)) / launch_s,
        launch_s=launch_s,
        memory_s=compute_s * float(random.uniform(0.05, 0.15)),
        chain=float(random.uniform(1.0, 1.3)),
        reference=Reference(communication_s=known_s, mtbf_s=MTBF_S, source="the link's rated bandwidth"),
    )


def cost(seed: int) -> float:
    """What a planted cause costs, as a part of the step: from 10% upward."""
    return float(np.random.default_rng((seed, 2)).uniform(0.115, 0.8))


def plant_input(seed: int) -> tuple[Scenario, Scenario]:
    """A slow loader, on every step or on every few."""
    healthy = clean(seed)
    every = int(np.random.default_rng((seed, 3)).choice([1, 1, 4, 10]))
    return replace(healthy, loader_s=cost(seed) * healthy.compute_s * 1.1, loader_every=every), healthy


def plant_straggler(seed: int) -> tuple[Scenario, Scenario]:
    """One rank that computes more slowly."""
    healthy = clean(seed, pipeline=False)
    healthy = replace(healthy, data=max(2, healthy.data), link_s=healthy.link_s or 0.01 * healthy.compute_s)
    slow = int(np.random.default_rng((seed, 3)).integers(healthy.data))
    return replace(healthy, slow={slow: 1 + cost(seed) * 1.1}), healthy


def plant_communication(seed: int) -> tuple[Scenario, Scenario]:
    """A throttled link."""
    healthy = clean(seed)
    if healthy.data * healthy.pipeline == 1:
        healthy = replace(healthy, data=2, link_s=0.02 * healthy.compute_s)
    return replace(healthy, link_s=healthy.link_s + cost(seed) * 1.1 * healthy.compute_s), healthy


def plant_stage_imbalance(seed: int) -> tuple[Scenario, Scenario]:
    """An oversized last stage: the same model, cut badly."""
    healthy = replace(clean(seed, pipeline=True))
    more = 1 + 1.3 * cost(seed)
    stages = healthy.pipeline
    rest = (stages - more) / (stages - 1)
    if rest <= 0.15:
        more = stages - 0.15 * (stages - 1)
        rest = 0.15
    return replace(healthy, weights=(*[rest] * (stages - 1), more)), replace(healthy, weights=(1.0,) * stages)


def plant_bubbles(seed: int) -> tuple[Scenario, Scenario]:
    """Too few micro-batches."""
    healthy = clean(seed, pipeline=True)
    few = int(np.random.default_rng((seed, 3)).integers(healthy.pipeline, 2 * healthy.pipeline + 1))
    return replace(healthy, micro_batches=few), replace(healthy, micro_batches=4 * few)


def plant_checkpoint_stalls(seed: int) -> tuple[Scenario, Scenario]:
    """Checkpoints far more often than one failure a day asks for."""
    healthy = clean(seed)
    every = int(np.random.default_rng((seed, 3)).integers(3, 20))
    stall_s = cost(seed) * 1.15 * healthy.compute_s * every
    return replace(healthy, checkpoint_s=stall_s, checkpoint_every=every), replace(healthy, checkpoint_every=10**9)


def plant_host_contention(seed: int) -> tuple[Scenario, Scenario]:
    """Other processes on the host of one rank, or of all."""
    healthy = clean(seed, pipeline=False)
    everywhere = np.random.default_rng((seed, 3)).random() < 0.5
    taken_s = cost(seed) * 1.15 * healthy.compute_s
    ranks = range(healthy.data) if everywhere else [0]
    return replace(healthy, delayed=dict.fromkeys(ranks, taken_s)), healthy


def plant_launch_bound(seed: int) -> tuple[Scenario, Scenario]:
    """Kernels so small that launching them takes longer than they do."""
    healthy = clean(seed)
    launches = (1 + 1.15 * cost(seed)) * healthy.compute_s / healthy.launch_s
    return replace(healthy, launches=launches, kernels_s=healthy.compute_s), replace(healthy, launches=launches / 50)


def plant_memory_bandwidth(seed: int) -> tuple[Scenario, Scenario]:
    """A chain of kernels that each touch all elements, where one could do."""
    healthy = clean(seed)
    chain = float(np.random.default_rng((seed, 3)).integers(3, 9))
    each_s = 1.15 * cost(seed) * healthy.compute_s / (chain - 1)
    memory_s = chain * each_s
    kernels_s = healthy.compute_s + memory_s
    planted = replace(healthy, kernels_s=kernels_s, memory_s=memory_s, chain=chain)
    return planted, replace(healthy, kernels_s=healthy.compute_s + each_s, memory_s=each_s, chain=1.0)


PLANTS: dict[str, Callable[[int], tuple[Scenario, Scenario]]] = {
    "input": plant_input,
    "straggler": plant_straggler,
    "communication": plant_communication,
    "stage_imbalance": plant_stage_imbalance,
    "bubbles": plant_bubbles,
    "checkpoint_stalls": plant_checkpoint_stalls,
    "host_contention": plant_host_contention,
    "launch_bound": plant_launch_bound,
    "memory_bandwidth": plant_memory_bandwidth,
}
