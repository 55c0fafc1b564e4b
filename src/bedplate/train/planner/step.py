"""The time of one step by part, and what follows from it: tokens a second, utilization.

Does not know: which layout is best (`search`), or what a second costs (`cost`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from bedplate.train.planner.efficiency import FITTED, Constants
from bedplate.train.planner.kernels import Passes, Speeds, layer, output
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.memory import Memory, memory, stage_parameters
from bedplate.train.planner.network import all_to_all_s, gather_s, send_s

OPTIMIZER_BYTES = 30.0  # read and written for a parameter by an Adam step: gradient, master copy, two moments, 16-bit copy


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step by part. Communication is what is not hidden behind computation, by axis."""

    compute_s: float
    data_s: float
    shard_s: float
    tensor_s: float
    context_s: float
    expert_s: float
    pipeline_s: float
    bubble_s: float
    optimizer_s: float
    jitter_s: float
    input_s: float
    checkpoint_s: float

    @property
    def total_s(self) -> float:
        """The sum of the parts."""
        return math.fsum(asdict(self).values())

    @property
    def communication_s(self) -> float:
        """Exposed communication over all axes."""
        return self.data_s + self.shard_s + self.tensor_s + self.context_s + self.expert_s + self.pipeline_s


@dataclass(frozen=True)
class Prediction:
    """What a layout is predicted to need and do. Utilization counts attention under a causal mask half, as Llama 3 does."""

    layout: Layout
    memory: Memory
    time: StepTime
    tokens_per_s_per_device: float
    model_flops_utilization: float
    hardware_flops_utilization: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        memory_ = {**asdict(self.memory), "total_bytes": self.memory.total_bytes}
        time = {**asdict(self.time), "total_s": self.time.total_s}
        return {**asdict(self), "memory": memory_, "time": time, "mesh": self.layout.axes()}


def predict(work: Work, cluster: Cluster, layout: Layout, constants: Constants = FITTED) -> Prediction:
    """The prediction for a layout that divides the work (`Layout.check`). Pure."""
    speeds = Speeds(work, cluster, constants)
    one, last = layer(work, layout, speeds), output(work, layout, speeds)
    return _assemble(work, cluster, layout, speeds, (one, last))


def _assemble(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds, passes: tuple[Passes, Passes]) -> Prediction:
    one, last = passes
    rounds = layout.micro_batches(work.batch)
    layers, stage_s, last_s = _stage(work, layout, one, last)
    compute_s = rounds * (stage_s + last_s)
    tensor_s = rounds * layers * _tensor_s(work, cluster, layout, speeds)
    context_s = rounds * layers * _context_s(work, cluster, layout, speeds, one)
    expert_s = rounds * layers * _expert_s(work, cluster, layout, speeds)
    pipeline_s = rounds * _pipeline_s(work, cluster, layout, speeds)
    busy_s = compute_s + tensor_s + context_s + expert_s + pipeline_s
    bubble_s = busy_s / rounds * (layout.pipeline - 1) / layout.stages_per_rank
    data_s, shard_s = _parameters_s(work, cluster, layout, speeds, one)
    state = stage_parameters(work.shape, layout, "first") / (layout.replicas * layout.context if layout.zero else 1)
    optimizer_s = state * OPTIMIZER_BYTES / speeds.memory
    sum_s = busy_s + bubble_s + data_s + shard_s + optimizer_s
    jitter_s = sum_s * speeds.software.jitter * math.log2(max(1.0, layout.devices / 8))
    input_s = max(0.0, work.tokens * work.bytes_per_token / work.storage_bytes_per_s - sum_s - jitter_s)
    save_s = work.shape.parameters * work.state_bytes / work.storage_bytes_per_s  # written behind the next steps, but the copy waits
    copy_s = work.shape.parameters * work.state_bytes / layout.devices / 20e9 + save_s * 0.02
    checkpoint_s = copy_s * (sum_s + jitter_s + input_s) / work.checkpoint_every_s
    time = StepTime(
        compute_s, data_s, shard_s, tensor_s, context_s, expert_s, pipeline_s, bubble_s, optimizer_s, jitter_s, input_s, checkpoint_s
    )
    rate = work.tokens / time.total_s / layout.devices
    peak = cluster.device.peak(speeds.low)
    done = (one.flops * layers + last.flops / layout.pipeline) * rounds / time.total_s
    return Prediction(layout, memory(work, layout), time, rate, rate * work.shape.train_flops(work.sequence) / peak, done / peak)


def _stage(work: Work, layout: Layout, one: Passes, last: Passes) -> tuple[float, float, float]:
    """Layers of the slowest stage, and seconds a micro-batch spends there in layers and in the output.

    Where layers divide, the last stage carries the output as well; where not, stages with a layer less make room for it.
    """
    parts = layout.pipeline * layout.stages_per_rank
    if layout.pipeline == 1:
        return work.shape.layers, work.shape.layers * one.total_s, last.total_s
    most = layout.stages_per_rank * math.ceil(work.shape.layers / parts)
    if work.shape.layers % parts == 0:
        return most, most * one.total_s, last.total_s
    return most, most * one.total_s, max(0.0, last.total_s - one.total_s)


def _parameters_s(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds, one: Passes) -> tuple[float, float]:
    """Exposed seconds of a step in which copies sum gradients (`data`), and sharded parameters are gathered (`shard`)."""
    soft = speeds.software
    count = stage_parameters(work.shape, layout, "first")
    inner = layout.tensor * layout.context
    layers = max(1.0, work.shape.layers / layout.pipeline)
    rounds = layout.micro_batches(work.batch)
    width = 4.0 if work.precision == "fp32" else 2.0
    stage_s = layers * one.total_s
    if not layout.sharded:
        ranks = layout.replicas * layout.context
        moved = gather_s(cluster, soft, ranks, layout.tensor, (work.gradient_bytes + width) * count)
        return _exposed(moved, soft.overlap * stage_s, soft.contention), 0.0
    once = layout.pipeline > 1
    shards = layout.shard * layout.context
    gathers = gather_s(cluster, soft, shards, layout.tensor, width * count)
    scatters = gather_s(cluster, soft, shards, layout.tensor, work.gradient_bytes * count)
    forward = _exposed(gathers, soft.overlap * layers * one.forward_s, soft.contention)
    regather = 0.0 if once else gathers
    backward = _exposed(regather + scatters, soft.overlap * layers * (one.backward_s + one.again_s), soft.contention)
    shard_s = (forward + backward) * (1 if once else rounds)
    reduced = 2 * gather_s(cluster, soft, layout.data, inner * layout.shard, work.gradient_bytes * count / shards)
    return _exposed(reduced, soft.overlap * stage_s, soft.contention), shard_s


def _exposed(moved_s: float, behind_s: float, contention: float) -> float:
    """Of communication, what does not hide, and what the hidden part costs."""
    return max(0.0, moved_s - behind_s) + contention * min(moved_s, behind_s)


def _tensor_s(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds) -> float:
    """Exposed seconds of one layer and micro-batch: with sequence parallelism two gathers and two scatters forward, and backward the
    same and the inputs gathered once more (Korthikanti et al. 2022, section 4.2.2)."""
    if layout.tensor == 1:
        return 0.0
    size = layout.micro_batch * work.sequence / layout.context * work.shape.hidden * 2.0
    once = gather_s(cluster, speeds.software, layout.tensor, 1, size)
    count = 4 + 6 + (4 if layout.recompute == "full" else 0)
    return once * count * (1 - (speeds.software.tensor_overlap if work.overlap_tensor else 0.0))


def _context_s(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds, one: Passes) -> float:
    """Exposed seconds of one layer and micro-batch: keys and values go round, and come back with their gradients (Liu et al. 2023)."""
    if layout.context == 1:
        return 0.0
    size = layout.micro_batch * work.sequence * 2 * work.shape.kv_width / layout.tensor * 2.0
    once = gather_s(cluster, speeds.software, layout.context, layout.tensor, size)
    again = 1 if layout.recompute == "full" else 0
    hides = speeds.software.overlap if work.kernels == "fused" else 0.0
    return _exposed(
        (3 + again) * once, hides * (1 + speeds.software.backward_attention + again) * one.attention_s, speeds.software.contention
    )


def _expert_s(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds) -> float:
    """Exposed seconds of one layer and micro-batch: tokens go to their experts and back, forward and backward (Lepikhin et al. 2021)."""
    if layout.expert == 1:
        return 0.0
    tokens = layout.micro_batch * work.sequence / layout.context / layout.tensor
    size = tokens * work.shape.hidden * 2.0 * work.shape.experts_per_token
    once = all_to_all_s(cluster, speeds.software, layout.expert, layout.tensor * layout.context, size)
    return 4 * once * (1 - speeds.software.expert_overlap)


def _pipeline_s(work: Work, cluster: Cluster, layout: Layout, speeds: Speeds) -> float:
    """Exposed seconds of one micro-batch: activations to the next stage and gradients back; half of it hides behind other micro-batches."""
    if layout.pipeline == 1:
        return 0.0
    size = layout.micro_batch * work.sequence / layout.context * work.shape.hidden * 2.0 / layout.tensor
    stride = layout.devices // layout.pipeline
    return layout.stages_per_rank * send_s(cluster, speeds.software, stride, size)
