"""The rules: for each bottleneck, what the steps would take without it. The one whose absence gains most is named first.

A finding is made only where its gain is at least 7.5% of the step (a healthy all-reduce of two processes over loopback takes 6% of a
step of 35 ms; a cause that costs a tenth of a step gains 9%) and three times its own uncertainty. Every gain is a what-if on the same
model of a step (`steps`); a rule takes out what it names and nothing else, so gains of different findings may overlap.
Does not know: where the numbers come from, or how findings are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bedplate.train.doctor.measured import Array, Measured
from bedplate.train.doctor.steps import Work, work_of
from bedplate.train.goodput import best_interval_s

LEAST_SHARE: Final = 0.075
LEAST_SIGMAS: Final = 3.0
MORE_MICRO_BATCHES: Final = 4

VERDICTS: Final = {
    "input": "steps wait for their batches",
    "communication": "steps wait for the link",
    "straggler": "one rank is slower than its peers, and all wait for it",
    "stage_imbalance": "one stage of the pipeline has more to do than the others",
    "bubbles": "the pipeline fills and drains too often",
    "checkpoint_stalls": "checkpoints stop the steps too often",
    "host_contention": "other work takes the processor from the ranks",
    "launch_bound": "the host launches kernels more slowly than they run",
    "memory_bandwidth": "kernels that only move elements take the time",
    "compute": "the step is spent computing: nothing stands out that would be cheaper to remove",
}


@dataclass(frozen=True)
class Finding:
    """A bottleneck: a name of `VERDICTS`, its evidence in words with numbers, what its absence gains, and what to try next.

    `gain_s` is seconds of the measured steps together, `gain_share` the part of their time.
    """

    verdict: str
    evidence: str
    gain_s: float
    gain_share: float
    next: str

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return {name: getattr(self, name) for name in ("verdict", "evidence", "gain_s", "gain_share", "next")}


@dataclass(frozen=True)
class _Candidate:
    without: Work
    evidence: str
    next: str


def diagnose(run: Measured) -> list[Finding]:
    """What holds the run back, the most expensive first. Never empty: the last is `compute`, what is left when nothing else is."""
    work = work_of(run)
    before = work.time_s()
    total_s = float((run.step_s * run.steps).sum())
    found = []
    for verdict, rule in RULES.items():
        candidate = rule(run, work)
        if candidate is None:
            continue
        saved = before - candidate.without.time_s()
        share = run.mean(saved) / run.mean(run.step_s)
        if share >= LEAST_SHARE and _certain(run, saved):
            found.append(Finding(verdict, candidate.evidence, share * total_s, share, candidate.next))
    found.sort(key=lambda finding: -finding.gain_s)
    return [*found, _compute(run)]


def _certain(run: Measured, saved: Array) -> bool:
    """Whether a gain is more than chance: it is there in each third of the steps, and more than three of its standard errors."""
    blocks = [
        float(np.average(part, weights=weight))
        for part, weight in zip(np.array_split(saved, 6), np.array_split(run.steps, 6), strict=True)
        if len(part)
    ]
    error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else 0.0
    return float(np.mean(blocks)) > LEAST_SIGMAS * error


def _input(run: Measured, work: Work) -> _Candidate | None:
    waited = np.maximum(work.input_s, 0.0)
    usual = np.minimum(waited, run.reference.input_s)
    each = [run.mean(waited[:, rank]) for rank in range(run.ranks)]
    worst = int(np.argmax(each))
    told = f"a step waits {_ms(each[worst])} of {_ms(run.mean(run.step_s))} for its batch{_on(run, worst, each)}"
    read, stored = _per_step(run, "read_bytes"), _per_step(run, "storage_bytes")
    rest_s = max(1e-9, run.mean(run.step_s) - each[worst])
    if stored > 4096:
        told += (
            f"; {_mb(stored)} a step come from storage at {_mb(stored / max(each[worst], 1e-9))}/s, "
            f"and {_mb(stored / rest_s)}/s would keep up"
        )
        following = "read ahead (a worker that prepares the next batches), or put the shards on faster storage"
    else:
        following = "read ahead, or make what prepares a batch cheaper: it is processor time, storage gave next to nothing"
        told += f"; {_mb(read)} a step are read, none of it from storage" if read else ""
    return _Candidate(replace(work, input_s=usual), told, following)


def _straggler(run: Measured, work: Work) -> _Candidate | None:
    if run.ranks < 2:
        return None
    own = work.compute_s + work.other_s
    usual = own.copy()
    mean = np.average(own - np.minimum(run.delay, work.compute_s), axis=0, weights=run.steps)  # contention is a verdict of its own
    slowest, slowest_by = -1, 0.0
    for stage in np.unique(run.stage):
        peers = np.flatnonzero(run.stage == stage)
        if len(peers) < 2:
            continue
        middle = np.sort(mean[peers])[(len(peers) - 1) // 2]  # of two the faster: neither is usual
        for rank in peers:
            excess = max(0.0, float(mean[rank] - middle))
            usual[:, rank] -= excess
            if excess > slowest_by:
                slowest, slowest_by = int(rank), excess
    if slowest < 0:
        return None
    factor = np.divide(usual, own, out=np.ones_like(own), where=own > 0)
    told = f"rank {slowest} works {_ms(mean[slowest])} a step, its peers {_ms(mean[slowest] - slowest_by)}"
    following = f"run without the machine of rank {slowest}, or profile that rank; even out samples of unequal length"
    return _Candidate(replace(work, compute_s=work.compute_s * factor, other_s=work.other_s * factor), told, following)


def _communication(run: Measured, work: Work) -> _Candidate | None:
    if run.ranks < 2:
        return None
    usual = np.minimum(work.link_s, run.reference.communication_s)
    told = f"the fastest moment of all ranks still waits {_ms(run.mean(work.link_s))} a step for the link"
    told += f"; {_ms(run.reference.communication_s)} are usual ({run.reference.source})" if run.reference.communication_s else ""
    following = (
        "measure the link between the machines; larger buckets, lower precision of gradients, or fewer steps between updates hide more"
    )
    return _Candidate(replace(work, link_s=usual), told, following)


def _imbalance(run: Measured, work: Work) -> _Candidate | None:
    if work.pipeline == 1:
        return None
    stages = np.unique(run.stage)
    means = {}
    for stage in stages:
        peers = np.sort(np.average(work.compute_s[:, run.stage == stage], axis=0, weights=run.steps))
        means[int(stage)] = float(peers[(len(peers) - 1) // 2])
    middle = sum(means.values()) / len(means)
    factor = np.array([middle / means[int(stage)] if means[int(stage)] > 0 else 1.0 for stage in run.stage])
    worst = max(means, key=lambda stage: means[stage])
    told = ", ".join(f"stage {stage} {_ms(seconds)}" for stage, seconds in means.items()) + " of compute a step"
    following = f"move layers off stage {worst}: with even stages each has {_ms(middle)}"
    return _Candidate(replace(work, compute_s=work.compute_s * factor), told, following)


def _bubbles(run: Measured, work: Work) -> _Candidate | None:
    if work.pipeline == 1:
        return None
    more = MORE_MICRO_BATCHES * work.micro_batches
    share = run.mean(work.bubble_s()) / run.mean(run.step_s)
    told = f"{work.pipeline} stages and {work.micro_batches:g} micro-batches leave {share:.0%} of a step empty"
    following = f"cut a batch into {more:g} micro-batches, or use an interleaved or zero-bubble schedule"
    saved = work.bubble_s() * (1 - 1 / MORE_MICRO_BATCHES)
    return _Candidate(replace(work, link_s=work.link_s - saved), told, following)


def _checkpoints(run: Measured, work: Work) -> _Candidate | None:
    total_s = float((work.checkpoint_s * run.steps).sum())
    if not run.checkpoints or total_s <= 0:
        return None
    stall_s = total_s / run.checkpoints
    every_s = float((run.step_s * run.steps).sum()) / run.checkpoints
    best_s = best_interval_s(stall_s, run.reference.mtbf_s)
    if best_s <= every_s:
        return None
    told = f"{run.checkpoints} checkpoints stopped the steps for {stall_s:.3g} s each, one every {every_s:.3g} s"
    following = f"one every {best_s:.3g} s loses least at one failure in {run.reference.mtbf_s / 3600:.3g} h: `checkpoint: auto`"
    return _Candidate(replace(work, checkpoint_s=work.checkpoint_s * (every_s / best_s)), told, following)


def _contention(run: Measured, work: Work) -> _Candidate | None:
    delay = np.average(run.delay, axis=0, weights=run.steps)
    if not delay.any():
        return None
    worst = int(np.argmax(delay))
    told = f"rank {worst} was ready to run but had no processor for {_ms(float(delay[worst]))} a step"
    switches = _per_step(run, "switches")
    told += f", and was interrupted {switches:.3g} times a step" if switches >= 0.01 else ""
    following = "give the ranks processors of their own, or move what else runs there; fewer threads a rank where they are all its own"
    return _Candidate(replace(work, compute_s=np.maximum(work.compute_s - run.delay, 0.0)), told, following)


def _launches(run: Measured, work: Work) -> _Candidate | None:
    profile = run.profile
    if profile is None:
        return None
    launching_s = profile.launches * profile.launch_s
    compute_s = run.mean(work.compute_s.max(axis=1))
    saved_s = max(0.0, min(launching_s - (profile.kernel_s if profile.overlaps else 0.0), compute_s))
    told = (
        f"{profile.launches:,.0f} kernels a step run {_ms(profile.kernel_s)}, and launching them takes {_ms(launching_s)} "
        f"of {_ms(compute_s)} ({1e6 * profile.launch_s:.3g} us each)"
    )
    following = "capture the step in a graph (`torch.compile(mode='reduce-overhead')`), or raise the micro-batch: fewer, larger kernels"
    return _Candidate(replace(work, compute_s=np.maximum(work.compute_s - saved_s, 0.0)), told, following)


def _memory(run: Measured, work: Work) -> _Candidate | None:
    profile = run.profile
    if profile is None or profile.chain <= 1 or profile.memory_s <= 0:
        return None
    saved_s = profile.memory_s * (1 - 1 / profile.chain)
    told = f"{_ms(profile.memory_s)} of {_ms(profile.kernel_s)} in kernels only move elements, in chains of {profile.chain:.3g}"
    following = "fuse them: `torch.compile`, a fused optimizer, or a kernel that does the chain in one pass"
    return _Candidate(replace(work, compute_s=np.maximum(work.compute_s - saved_s, 0.0)), told, following)


def _compute(run: Measured) -> Finding:
    share = run.mean(run.of("compute", "optimizer").mean(axis=1)) / run.mean(run.step_s)
    told = f"{share:.0%} of a step of {_ms(run.mean(run.step_s))} is forward, backward and the optimizer"
    following = "lower precision, `torch.compile`, or more workers; `--profile` shows which kernels"
    return Finding("compute", told, 0.0, 0.0, following)


Rule = Callable[[Measured, Work], _Candidate | None]
RULES: Final[Mapping[str, Rule]] = {
    "input": _input,
    "straggler": _straggler,
    "communication": _communication,
    "stage_imbalance": _imbalance,
    "bubbles": _bubbles,
    "checkpoint_stalls": _checkpoints,
    "host_contention": _contention,
    "launch_bound": _launches,
    "memory_bandwidth": _memory,
}


def _per_step(run: Measured, name: str) -> float:
    return float(run.counters[name].max()) if name in run.counters else 0.0


def _on(run: Measured, rank: int, each: list[float]) -> str:
    """Which rank, where the others wait much less."""
    return f" on rank {rank}" if run.ranks > 1 and sorted(each)[-2] < each[rank] / 2 else ""


def _ms(duration_s: float) -> str:
    return f"{1e3 * duration_s:.3g} ms"


def _mb(count: float) -> str:
    return f"{count / 1e6:.3g} MB"
