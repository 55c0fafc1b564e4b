"""Six workloads of 160 training jobs on 16 nodes of 4 GPUs (Pollux, OSDI'21): mean completion of our queue beside the published figures.

Ground truth is the measured step time of each model at each placement and batch, and its gradient noise by epoch; the queue sees only what
a job's own steps told so far. As in the published simulator a decision is made each 60 s, and a job that moves stands still for 30 s.
"""

from __future__ import annotations

import csv
import functools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import LinearNDInterpolator

from bedplate.cluster.elastic import Claim, assign, gang, share
from bedplate.cluster.speedup import Batches, GradientNoise, Observation, Setting, StepModel, goodputs, speedups
from bench.table import Row

TRACES = Path(__file__).parents[2] / "shared" / "traces" / "pollux"
TICK_S, MOVING_S = 60, 30
WORKLOADS = range(1, 7)
PUBLISHED = {"Pollux": 2446.0, "Tiresias": 3470.0}  # seconds, of workload 6
NODES, PER_NODE = 16, 4
DEVICES = NODES * PER_NODE
TIRESIAS_QUEUE_S = 16 * 3600  # device seconds after which it sends a job to its second queue
EPOCHS = {"bert": 2, "cifar10": 100, "ncf": 10, "imagenet": 90, "deepspeech2": 80, "yolov3": 50}
MOST_MICRO = {"yolov3": 8}
FIXED_BATCH = {"ncf": 32768}  # its quality was measured at this batch only; one GPU


class Application:
    """One model: its step time by placement and micro-batch, its progress and gradient noise by epoch."""

    def __init__(self, name: str) -> None:
        folder = TRACES / "traces" / name
        self.name, self.epochs = name, EPOCHS[name]
        self._curves = {}
        for path in folder.glob("validation-*.csv"):
            rows = list(csv.DictReader(path.open()))
            self._curves[int(path.stem.partition("-")[2])] = {
                key: np.array([float(row[key]) for row in rows]) for key in ("progress", "grad_sqr", "grad_var")
            }
        self._sizes = np.array(sorted(self._curves))
        rows = list(csv.DictReader((folder / "placements.csv").open()))
        self._steps: dict[tuple[int, ...], Any] = {}
        together = defaultdict(list)
        for row in rows:
            placement = tuple(int(each) for each in row["placement"])
            times = (float(row["step_time"]), float(row["sync_time"]))
            self._steps.setdefault(placement, []).append((int(row["local_bsz"]), *times))
            together[len(placement), sum(placement), int(row["local_bsz"])].append(times)
        for placement, seen in self._steps.items():
            self._steps[placement] = np.array(sorted(seen)).T
        points = [(*key, *np.mean(values, axis=0)) for key, values in together.items()]
        for row in csv.DictReader((folder / "scalability.csv").open()):
            points.append(tuple(float(row[key]) for key in ("num_nodes", "num_replicas", "local_bsz", "step_time", "sync_time")))
        table = np.array(points)
        self._between = LinearNDInterpolator(table[:, :3], table[:, 3:])
        micro = [int(row["local_bsz"]) for row in rows]
        self.batches = Batches(int(self._sizes[0]), int(self._sizes[-1]), min(micro), MOST_MICRO.get(name, max(micro)))

    @functools.cache  # noqa: B019 - six of them, as long as the bench
    def step(self, placement: tuple[int, ...], micro_batch: int) -> tuple[float, float]:
        """Seconds of a step, and those of them that wait for other ranks; a placement is the same from whichever node it is told."""
        turned = min(placement[each:] + placement[:each] for each in range(len(placement)))
        if turned in self._steps:
            sizes, step_s, sync_s = self._steps[turned]
            return float(np.interp(micro_batch, sizes, step_s)), float(np.interp(micro_batch, sizes, sync_s))
        step_s, sync_s = self._between(min(len(placement), 16), sum(placement), micro_batch).ravel()
        assert step_s == step_s, (self.name, placement, micro_batch)
        return float(step_s), float(sync_s)

    @functools.cache  # noqa: B019 - as above
    def progress(self, epoch: int) -> float:
        """Steps of the usual batch that make so many epochs."""
        return 0.0 if epoch == 0 else min(float(curve["progress"][epoch - 1]) for curve in self._curves.values())

    @functools.cache  # noqa: B019 - as above
    def noise(self, batch: int, epoch: int) -> GradientNoise:
        """Between the two measured batches on either side."""
        at = [[float(self._curves[size][key][epoch]) for size in self._sizes] for key in ("grad_sqr", "grad_var")]
        squared, variance = (float(np.interp(batch, self._sizes, values)) for values in at)
        return GradientNoise(squared, variance)


@dataclass
class Job:
    """One job as it runs: its devices by node, and what it has learned."""

    name: str
    app: Application
    submitted_s: float
    ranks: int
    batch: int
    elastic: bool
    at: dict[int, int] = field(default_factory=dict)
    micro: int = 0
    accumulate: int = 1
    moving_s: float = 0.0
    epoch: int = 0
    progress: float = 0.0
    attained_s: float = 0.0
    served_s: float = 0.0  # work done, in seconds of one device
    since_s: float = 0.0
    moves: int = 0
    done_s: float | None = None
    seen: dict[tuple[int, int, int], Observation] = field(default_factory=dict)
    noise: GradientNoise | None = None
    model: StepModel | None = None

    @property
    def placement(self) -> tuple[int, ...]:
        return tuple(self.at.values())

    def move(self, at: Mapping[int, int], now_s: float) -> None:
        """To other devices, or none."""
        if at == self.at:
            return
        self.since_s = now_s
        self.at = dict(at)
        self.moves += bool(at)
        self.moving_s = MOVING_S
        if at:
            self.set_batch()

    def set_batch(self) -> None:
        ranks = sum(self.at.values())
        if self.elastic and self.model is not None and self.app.name not in FIXED_BATCH:
            best = self.best(len(self.at), ranks)
            self.micro, self.accumulate = best.micro_batch, best.accumulate
            return
        limits = self.app.batches
        batch = FIXED_BATCH.get(self.app.name) or self.batch
        if self.elastic and self.app.name not in FIXED_BATCH:
            batch = max(limits.usual, limits.least_micro * ranks)
        local = math.ceil(batch / ranks - 1e-8)
        self.accumulate = math.ceil(local / limits.most_micro - 1e-8)
        if ranks == 1 and batch > limits.usual:
            self.accumulate = max(2, self.accumulate)
        self.micro = min(math.ceil(local / self.accumulate - 1e-8), limits.most // (ranks * self.accumulate))

    def best(self, nodes: int, ranks: int) -> Setting:
        assert self.model is not None and self.noise is not None
        (found,) = goodputs(self.model, self.noise, self.app.batches, np.array([float(nodes)]), np.array([float(ranks)]))
        return found

    def claim(self, now_s: float, tells: bool) -> Claim:
        """What the queue is told: never how long the job takes, and with `tells` how many of its epochs are done."""
        speedup = self._speedup()
        remaining_s = None
        if tells:
            done = self.progress / self.app.progress(self.app.epochs)
            remaining_s = self.served_s * (1 - done) / done if done else 0.0
        waited_s = 0.0 if self.at else now_s - self.since_s
        return Claim(self.name, speedup, sum(self.at.values()), self.attained_s, remaining_s, waited_s)

    def _speedup(self) -> Any:
        if not self.elastic:
            return gang(self.ranks)
        if self.model is None or self.noise is None or self.app.name in FIXED_BATCH:
            return np.array([0.0, 1.0])
        most = min(2 * max(key[1] for key in self.seen), DEVICES, self.app.batches.most // self.app.batches.least_micro)
        return speedups(self.model, self.noise, self.app.batches, max(1, most), PER_NODE)

    def run(self, now_s: float, seconds: float) -> None:
        """Let it work for so long."""
        if not self.at or self.done_s is not None:
            return
        ranks = sum(self.at.values())
        delay = min(self.moving_s, seconds)
        self.moving_s -= delay
        self.attained_s += seconds * ranks
        at_s, left_s = now_s + delay, seconds - delay
        while left_s > 0 and self.done_s is None:
            step_s, sync_s = self.app.step(self.placement, self.micro)
            batch = ranks * self.micro * self.accumulate
            noise = self.app.noise(batch, self.epoch)
            scale = np.array([batch / self.app.batches.usual])
            rate = float(noise.efficiency(scale)[0] * scale[0]) / (step_s + (self.accumulate - 1) * (step_s - sync_s))
            self._learn(noise, step_s, sync_s)
            wanted = self.app.progress(self.epoch + 1) - self.progress
            worked_s = min(left_s, wanted / rate)
            self.served_s += worked_s * self._sped_up(rate, ranks)
            if rate * left_s < wanted:
                self.progress += rate * left_s
                left_s = 0
            else:
                took_s = wanted / rate
                self.epoch += 1
                self.progress += wanted
                at_s, left_s = at_s + took_s, left_s - took_s
                if self.epoch == self.app.epochs:
                    self.done_s = at_s
            if self.elastic:
                self.set_batch()

    def _sped_up(self, rate: float, ranks: int) -> float:
        """By how much faster than on one device it goes, as far as its own steps tell."""
        if not self.elastic or self.app.name in FIXED_BATCH or self.model is None:
            return float(ranks)
        return max(1.0, rate * self.app.batches.usual / max(self.best(1, 1).goodput, 1e-12))

    def _learn(self, noise: GradientNoise, step_s: float, sync_s: float) -> None:
        self.noise = noise
        key = (len(self.at), sum(self.at.values()), self.micro)
        if key not in self.seen:
            self.seen[key] = Observation(*key, step_s, sync_s)
            self.model = StepModel.fit(list(self.seen.values()))


def jobs_of(workload: int, elastic: bool, applications: dict[str, Application]) -> list[Job]:
    rows = list(csv.DictReader((TRACES / "workloads" / f"workload-{workload}.csv").open()))
    return [
        Job(
            row["name"], applications[row["application"]], float(row["time"]), int(row["num_replicas"]), int(row["batch_size"]), elastic,
            since_s=float(row["time"]),
        )
        for row in rows
    ]  # fmt: skip


Policy = Callable[[Sequence[Job], float], Mapping[str, Mapping[int, int]]]


def simulate(jobs: Sequence[Job], policy: Policy) -> float:
    """Mean seconds from submission to completion."""
    now_s = 0.0
    while any(job.done_s is None for job in jobs):
        for job in jobs:
            job.run(now_s, TICK_S)
        now_s += TICK_S
        active = [job for job in jobs if job.submitted_s <= now_s and job.done_s is None]
        decided = policy(active, now_s)
        for job in active:
            job.move(decided.get(job.name, {}), now_s)
    return float(np.mean([job.done_s - job.submitted_s for job in jobs if job.done_s is not None]))


def ours(tells: bool) -> Policy:
    """The queue of `cluster.elastic`."""

    def decide(active: Sequence[Job], now_s: float) -> Mapping[str, Mapping[int, int]]:
        counts = share([job.claim(now_s, tells) for job in active], DEVICES)
        return assign(counts, {job.name: job.at for job in active}, dict.fromkeys(range(NODES), PER_NODE))

    return decide


def tiresias(active: Sequence[Job], _now_s: float) -> Mapping[str, Mapping[int, int]]:
    """Two queues by attained service, first come first served in each; the published baseline, to check this simulator by."""
    left, counts = DEVICES, {}
    for job in sorted(active, key=lambda job: (job.attained_s >= TIRESIAS_QUEUE_S, job.submitted_s)):
        if job.ranks <= left:
            left -= job.ranks
            counts[job.name] = job.ranks
    return assign(counts, {job.name: job.at for job in active}, dict.fromkeys(range(NODES), PER_NODE))


def rows() -> list[Row]:
    """Each workload, and the mean of all; the published figures are of workload 6 (mean completion in seconds)."""
    if not TRACES.exists():
        print(f"left out: the workloads are not at {TRACES}")
        return []
    applications = {name: Application(name) for name in EPOCHS}
    found = {
        name: [simulate(jobs_of(number, elastic, applications), policy) for number in WORKLOADS]
        for name, (elastic, policy) in {
            "tiresias, simulated here": (False, tiresias),
            "gangs, that tell nothing": (False, ours(tells=False)),
            "gangs, that tell their progress": (False, ours(tells=True)),
            "elastic, that tell nothing": (True, ours(tells=False)),
            "elastic, that tell their progress": (True, ours(tells=True)),
        }.items()
    }
    rows = []
    for name, times in found.items():
        spread = ", ".join(f"{each:.0f}" for each in times)
        published, by = (PUBLISHED["Pollux"], "Pollux") if name.startswith("elastic") else (PUBLISHED["Tiresias"], "Tiresias")
        rows.append(Row(f"queue: mean completion, workload 6, {name}", times[-1], "s", "", published, f"{by}, published"))
        rows.append(Row(f"queue: mean completion, all six, {name}", float(np.mean(times)), "s", spread))
    return rows
