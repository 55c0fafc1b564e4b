"""The memory of one device by part: parameters, gradients, optimizer, activations, buffers.

States as in ZeRO (Rajbhandari et al. 2020): 2 bytes of a 16-bit parameter, 4 (or 2) of its gradient, 12 of an Adam master copy and moments.
Activations as in Korthikanti et al. 2022, section 4, for attention that keeps no scores (flash), gated blocks and grouped queries.
Does not know: time, or how memory fragments beyond a fixed share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from bedplate.train.planner.layout import Layout, Work
from bedplate.train.planner.shape import Shape

RUNTIME_BYTES: Final = 1.5e9  # context of the driver, of collectives, and of matrix libraries
FRAGMENTS: Final = 1.03


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest rank, by part."""

    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    buffers_bytes: float

    @property
    def total_bytes(self) -> float:
        """The sum of the parts."""
        parts = (self.parameters_bytes, self.gradients_bytes, self.optimizer_bytes, self.activations_bytes, self.buffers_bytes)
        return math.fsum(parts)


def memory(work: Work, layout: Layout) -> Memory:
    """The memory of the fullest rank of the layout: the first or the last stage of a pipeline."""
    states = {stage: _states(work, layout, stage) for stage in ("first", "last")}
    found = []
    for stage, (parameters, gradients, optimizer, gathered) in states.items():
        activations = _activations(work, layout, stage)
        logits = _logits(work, layout) if stage == "last" or layout.pipeline == 1 else 0.0
        working = _layer_bytes(work, layout, "none") * (1.5 if layout.recompute != "none" else 0.5)
        buffers = gathered + logits + working + _sequence_bytes(work, layout) + RUNTIME_BYTES
        found.append(Memory(parameters, gradients, optimizer, activations * FRAGMENTS, buffers))
    return max(found, key=lambda each: each.total_bytes)


def stage_parameters(shape: Shape, layout: Layout, stage: str) -> float:
    """Parameters that the ranks of one data-parallel place hold of a stage, with tensor and expert parallelism, before any sharding."""
    held = layout.stages_per_rank * math.ceil(shape.layers / (layout.pipeline * layout.stages_per_rank))
    experts = shape.experts * shape.expert_parameters / layout.expert
    dense = shape.layer_parameters - shape.experts * shape.expert_parameters
    total = held * (dense + experts)
    alone = layout.pipeline == 1
    if alone or stage == "first":
        total += shape.embedding_parameters
    if (alone and not shape.tied) or (not alone and stage == "last"):
        total += shape.output_parameters
    return total / layout.tensor


def _states(work: Work, layout: Layout, stage: str) -> tuple[float, float, float, float]:
    """Bytes of parameters, gradients and optimizer that stay, and of gathered parameters and their gradients that come and go."""
    count = stage_parameters(work.shape, layout, stage)
    ranks = layout.replicas * layout.context  # ranks of a context group share parameters as data-parallel ones do
    width = 4.0 if work.precision == "fp32" else 2.0
    if layout.sharded:
        shards = layout.shard * layout.context
        keeps = layout.pipeline > 1  # a pipeline keeps what it gathered, and sums gradients, over its micro-batches
        unit = max(work.shape.layer_parameters / layout.expert, work.shape.output_parameters) / layout.tensor
        gathered = (width + work.gradient_bytes) * count if keeps else 2 * width * unit + work.gradient_bytes * unit
        master = min(4.0, work.state_bytes)  # the sharded parameters are the master copy
        return count * master / shards, count * work.gradient_bytes / shards, count * (work.state_bytes - master) / shards, gathered
    split = ranks if layout.zero >= 1 else 1
    if work.precision == "fp32":
        return count * 4.0, count * 4.0, count * max(0.0, work.state_bytes - 4.0) / split, 0.0
    return count * width, count * work.gradient_bytes, count * work.state_bytes / split, 0.0


def _activations(work: Work, layout: Layout, stage: str) -> float:
    """Bytes of activations that wait for the backward pass: of the micro-batches in flight (Narayanan et al. 2021, section 2.2)."""
    held = math.ceil(work.shape.layers / layout.pipeline)
    one = _layer_bytes(work, layout, layout.recompute) * held
    if layout.pipeline == 1:
        return one
    waiting = layout.pipeline if stage == "first" else 1
    if layout.stages_per_rank > 1:
        behind = (layout.pipeline - 1) / (layout.pipeline * layout.stages_per_rank)
        return one * layout.pipeline * (1 + behind) if stage == "first" else one * (1 + behind)
    return one * min(waiting, layout.micro_batches(work.batch))


def _layer_bytes(work: Work, layout: Layout, recompute: str) -> float:
    """Bytes that one layer keeps of one micro-batch.

    Without recomputation: inputs of two norms and of the projections, queries, keys, values, the output of attention, and the inner
    activations of the feed-forward block; in eager mode norms keep 32-bit copies as well. Selective keeps the layer's input, attention and
    every other product; full keeps the layer's input.
    """
    shape = work.shape
    tokens = layout.micro_batch * work.sequence / layout.context / layout.tensor
    width = 4.0 if work.precision == "fp32" else 2.0
    used = shape.experts_per_token
    inner = used * (3 if shape.gated else 2) * shape.ffn
    if recompute == "full":
        return tokens * width * shape.hidden
    if recompute == "selective":
        products = shape.q_width + 2 * shape.kv_width + shape.hidden + used * ((2 if shape.gated else 1) * shape.ffn + shape.hidden)
        return tokens * width * (shape.hidden + shape.q_width + 0.5 * products)
    extra = {"eager": 4.0, "compiled": 0.0, "fused": 0.0}[work.kernels] * shape.hidden
    kept = 4 * shape.hidden + 2 * shape.q_width + 2 * shape.kv_width + used * (shape.hidden if shape.experts > 1 else 0) + inner + extra
    saved = 0.5 * (2 * shape.hidden + shape.q_width + used * shape.ffn) if work.precision == "fp8" and work.kernels == "fused" else 0.0
    return tokens * width * (kept - saved)


def _sequence_bytes(work: Work, layout: Layout) -> float:
    """Bytes of whole sequences that tensor-parallel ranks gather: the inputs of attention and feed-forward block, and their gradients."""
    tokens = layout.micro_batch * work.sequence / layout.context
    return 4 * 2.0 * tokens * work.shape.hidden if layout.tensor > 1 else 0.0


def _logits(work: Work, layout: Layout) -> float:
    """Bytes of logits and of their gradients at the peak: in 16 bits, and in 32 bits three times unless the loss is fused."""
    tokens = layout.micro_batch * work.sequence / layout.context / layout.tensor
    return tokens * work.shape.vocab * (6.0 if work.fused_loss else 14.0)
