"""The search over meshes: every way to share the devices that divides, judged by memory and then by time; why the others lose.

Does not know: which of them a user's code can run; the caller fixes what is settled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedplate.core.errors import JobError
from bedplate.train.planner.efficiency import FITTED, Constants
from bedplate.train.planner.layout import RECOMPUTES, Cluster, Layout, Work
from bedplate.train.planner.memory import memory
from bedplate.train.planner.step import Prediction, predict

HEADROOM: Final = 0.94  # of a device's memory that a plan may fill
MOST_PIPELINE: Final = 64
MOST_TOKENS: Final = 131072  # of one micro-batch on one rank: larger ones gain nothing
LEAST_PART: Final = 1024  # tokens of a sequence that a context-parallel rank has at least
_NAMES: Final = {
    "compute_s": "computes longer",
    "data_s": "sums gradients longer",
    "shard_s": "gathers parameters longer",
    "tensor_s": "tensor-parallel communication",
    "context_s": "context-parallel communication",
    "expert_s": "expert-parallel communication",
    "pipeline_s": "sends between stages",
    "bubble_s": "a larger bubble",
    "optimizer_s": "a longer optimizer step",
    "input_s": "waits for storage",
}


@dataclass(frozen=True)
class Loser:
    """A mesh that is not the best, at its best settings, and why. `short_bytes` is what it lacks in memory, 0 where it fits."""

    layout: Layout
    why: str
    short_bytes: float
    tokens_per_s_per_device: float | None


@dataclass(frozen=True)
class Found:
    """The best meshes, best first; the others with their reasons; how many layouts were looked at, and the memory that one may fill."""

    best: tuple[Prediction, ...]
    losers: tuple[Loser, ...]
    looked_at: int
    limit_bytes: float


def search(work: Work, cluster: Cluster, fixed: Mapping[str, Any] | None = None, *, most: int = 5, constants: Constants = FITTED) -> Found:
    """The best `most` meshes for the work, one of each kind. `fixed` holds fields of `Layout` that are settled; besides, `rounds`: into how
    many micro-batches a rank cuts its part of a batch, `plain`: 0 where copies do not split the optimizer, and of a pipeline `least`: how
    many micro-batches for each of its ranks one backward needs at least, and `micro_batches`: how many it has.

    Raises JobError where no mesh divides; where none fits in memory, `best` is empty and the losers say by how much.
    """
    limit = cluster.device.memory_bytes * HEADROOM
    fits: dict[Layout, Prediction] = {}
    short: dict[Layout, tuple[Layout, float]] = {}
    count = 0
    for layout in layouts(work, cluster, fixed or {}):
        count += 1
        kind = _kind(layout)
        need = memory(work, layout).total_bytes
        if need > limit:
            if kind not in short or need < short[kind][1]:
                short[kind] = layout, need
            continue
        found = predict(work, cluster, layout, constants)
        if kind not in fits or found.tokens_per_s_per_device > fits[kind].tokens_per_s_per_device:
            fits[kind] = found
    if not count:
        raise _none_divides(work, cluster, fixed or {})
    ranked = sorted(fits.values(), key=lambda each: (-round(each.tokens_per_s_per_device, 3), len(each.layout.axes())))
    slower = [Loser(each.layout, _slower(each, ranked[0]), 0.0, each.tokens_per_s_per_device) for each in ranked[1:]]
    lacking = [(need, layout) for kind, (layout, need) in short.items() if kind not in fits]
    lacking.sort(key=lambda pair: pair[0])
    unfit = [Loser(layout, _unfit(work, layout, need, limit), need - limit, None) for need, layout in lacking]
    return Found(tuple(ranked[:most]), (*slower, *unfit), count, limit)


def layouts(work: Work, cluster: Cluster, fixed: Mapping[str, Any]) -> Iterator[Layout]:
    """Every layout that divides the devices and the batch, with the fixed fields as they are."""
    shape = work.shape
    for tensor in _axis("tensor", fixed, _divisors(cluster.devices, min(cluster.device.domain, shape.heads))):
        if shape.heads % tensor:
            continue
        for pipeline in _axis("pipeline", fixed, _divisors(cluster.devices // tensor, min(shape.layers, MOST_PIPELINE))):
            for context in _axis("context", fixed, _divisors(cluster.devices // tensor // pipeline, _most_context(work))):
                rest, left = divmod(cluster.devices, tensor * pipeline * context)
                if not left and rest and (context == 1 or work.sequence % (2 * context) == 0):
                    base = Layout(tensor=tensor, pipeline=pipeline, context=context)
                    yield from _with_copies(work, cluster, fixed, base, rest)


def _with_copies(work: Work, cluster: Cluster, fixed: Mapping[str, Any], base: Layout, rest: int) -> Iterator[Layout]:
    """The ways to use `rest` ranks for different sequences: as copies, sharded in full, or sharded within a domain and copied."""
    if work.batch % rest:
        return
    near = max(1, min(rest, cluster.device.domain // (base.tensor * base.context)))
    plain = fixed.get("plain", 1)
    choices = [(rest, 1, plain), (1, rest, 3)]
    if 1 < near < rest and rest % near == 0:
        choices.append((rest // near, near, 3))
    if "data" in fixed and rest % fixed["data"] == 0:
        choices = [(fixed["data"], rest // fixed["data"], 3 if rest > fixed["data"] else plain)]
    if "shard" in fixed:
        choices = [(rest // fixed["shard"], fixed["shard"], 3 if fixed["shard"] > 1 else plain)] if rest % fixed["shard"] == 0 else []
    for data, shard, zero in dict.fromkeys(choices):
        if zero == 3 and (rest * base.context == 1 or (base.pipeline > 1 and "shard" not in fixed)):
            continue
        if fixed.get("data", data) != data or fixed.get("zero", zero) != zero:
            continue
        for expert in _experts(work, cluster, fixed, base, rest):
            placed = base.with_axes({"data": data, "shard": shard, "zero": zero, "expert": expert})
            yield from _with_settings(work, fixed, placed)


def _with_settings(work: Work, fixed: Mapping[str, Any], placed: Layout) -> Iterator[Layout]:
    """The micro-batches, stages and recomputations of a mesh."""
    own = work.batch // placed.replicas
    parts = work.sequence / placed.context
    sizes = [size for size in (1, 2, 4, 8, 16, 32) if own % size == 0 and (size == 1 or size * parts <= MOST_TOKENS)]
    stages = (
        [1, *(many for many in (2, 4, 5, 8, 10, 16) if _even(work.shape.layers, placed.pipeline * many))] if placed.pipeline > 1 else [1]
    )
    if "rounds" in fixed:
        sizes = _cut(own, fixed, placed.pipeline)
    for size in _axis("micro_batch", fixed, sizes):
        rounds = placed.micro_batches(work.batch) // size
        for many in _axis("stages_per_rank", fixed, stages) if placed.pipeline > 1 else stages:
            if many > 1 and rounds % placed.pipeline:
                continue  # an interleaved schedule deals micro-batches out in rounds of the pipeline (Narayanan et al. 2021)
            for recompute in _axis("recompute", fixed, RECOMPUTES):
                yield placed.with_axes({"micro_batch": size, "stages_per_rank": many, "recompute": recompute})


def _cut(own: int, fixed: Mapping[str, Any], pipeline: int) -> list[int]:
    """The sizes of micro-batches into which the code can cut a rank's `own` samples: a pipeline has several in each of its rounds."""
    if pipeline == 1:
        return [own // fixed["rounds"]] if own % fixed["rounds"] == 0 else []
    wanted, least = fixed.get("micro_batches"), pipeline * fixed.get("least", 1)
    counts = (count for count in range(least, own // fixed["rounds"] + 1) if own % (count * fixed["rounds"]) == 0)
    return [own // (count * fixed["rounds"]) for count in counts if wanted in (None, count)]


def _even(layers: int, parts: int) -> bool:
    """Whether layers can be dealt to stages with at most a tenth of the places empty."""
    return layers >= parts * 0.9 and -(-layers // parts) * parts <= layers * 1.1


def _axis(name: str, fixed: Mapping[str, Any], values: Any) -> Any:
    return [fixed[name]] if name in fixed else values


def _divisors(number: int, most: int) -> list[int]:
    return [value for value in range(1, min(number, most) + 1) if number % value == 0]


def _most_context(work: Work) -> int:
    return max(1, work.sequence // max(LEAST_PART, 4096))


def _experts(work: Work, cluster: Cluster, fixed: Mapping[str, Any], base: Layout, rest: int) -> list[int]:
    if "expert" in fixed:
        return [fixed["expert"]]
    experts = work.shape.experts
    return [
        size for size in _divisors(rest, experts) if experts % size == 0 and size * base.tensor * base.context <= cluster.device.domain * 8
    ]


def _kind(layout: Layout) -> Layout:
    """Layouts of one kind differ in settings only."""
    return layout.with_axes({"micro_batch": 1, "stages_per_rank": 1, "recompute": "none"})


def _slower(one: Prediction, best: Prediction) -> str:
    """By how much, and the part of a step that grew most."""
    gaps = {name: getattr(one.time, name) - getattr(best.time, name) for name in _NAMES}
    part = max(gaps, key=lambda name: gaps[name])
    share = getattr(one.time, part) / one.time.total_s
    loss = 1 - one.tokens_per_s_per_device / best.tokens_per_s_per_device
    extra = ", as it must recompute" if part == "compute_s" and one.layout.recompute != "none" and best.layout.recompute == "none" else ""
    return f"{loss:.1%} slower: {_NAMES[part]} ({share:.0%} of a step{extra})"


def _unfit(work: Work, layout: Layout, need: float, limit: float) -> str:
    parts = memory(work, layout)
    named = {"parameters": parts.parameters_bytes, "gradients": parts.gradients_bytes, "optimizer": parts.optimizer_bytes}
    named |= {"activations": parts.activations_bytes, "buffers": parts.buffers_bytes}
    largest = max(named, key=lambda name: named[name])
    over = f"{need / 2**30:,.0f} GiB of {limit / 2**30:,.0f}"
    return f"does not fit: {over}, {(need - limit) / 2**30:,.0f} GiB too much (most of it {largest}, {named[largest] / 2**30:,.0f} GiB)"


def _none_divides(work: Work, cluster: Cluster, fixed: Mapping[str, Any]) -> JobError:
    rounds = int(fixed.get("rounds", 1))
    by = "the data-parallel ranks" if rounds == 1 else f"the data-parallel ranks and their {rounds} micro-batches"
    fix = f"let {work.batch} sequences divide by {by}, for example --batch {_round_up(work.batch, cluster.devices * rounds)}"
    return JobError(f"no mesh divides {cluster.devices} devices and {work.batch} sequences", value=dict(fixed), fix=fix)


def _round_up(batch: int, devices: int) -> int:
    return -(-batch // devices) * devices
