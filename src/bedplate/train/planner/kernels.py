"""The time of one layer and of the output on one device, communication left out.

A matrix product takes its FLOP at the reached peak plus its bytes at the reached bandwidth: the roofline of Williams et al. 2009 in its
additive form, in which efficiency falls with arithmetic intensity. Between products, bytes decide.
Does not know: other ranks (`network`) or pipelines (`step`).
"""

from __future__ import annotations

from dataclasses import dataclass

from bedplate.train.planner.efficiency import Constants
from bedplate.train.planner.layout import Cluster, Layout, Work
from bedplate.train.planner.shape import Shape


@dataclass(frozen=True)
class Passes:
    """Seconds of a forward and a backward pass, of what the backward pass computes again, and FLOP that a device really does."""

    forward_s: float
    backward_s: float
    again_s: float
    attention_s: float
    flops: float

    @property
    def total_s(self) -> float:
        """Of all passes of one micro-batch."""
        return self.forward_s + self.backward_s + self.again_s


class Speeds:
    """What one device reaches for this work: FLOP/s and bytes/s."""

    def __init__(self, work: Work, cluster: Cluster, constants: Constants) -> None:
        own, soft = constants.of(cluster.device), constants.software
        limit = min(1.0, (cluster.power_limit_w or cluster.device.power_w) / cluster.device.power_w)
        clocks: float = limit**soft.clocks
        half = "fp32" if work.precision == "fp32" else cluster.device.half
        low = "fp8" if work.precision == "fp8" and "fp8" in cluster.device.peak_flops else half
        reached = own.matrix.get("bf16", 0.6)
        self.low = low
        self.matrix = cluster.device.peak(low) * own.matrix.get(low, reached) * clocks
        self.half = cluster.device.peak(half) * own.matrix.get(half, reached) * clocks
        self.attention = cluster.device.peak(half) * own.attention * soft.attention[work.kernels] * clocks
        self.memory: float = cluster.memory_rate * soft.memory
        self.launch_s = soft.launches[work.kernels] * soft.launch_s
        self.software = soft


def layer(work: Work, layout: Layout, speeds: Speeds) -> Passes:
    """The passes of one layer for one micro-batch on one rank."""
    shape, soft = work.shape, speeds.software
    tokens = layout.micro_batch * work.sequence / layout.context
    products_s = _products_s(shape, layout, speeds, tokens)
    between_s = _between_bytes(work, layout, speeds) * tokens / speeds.memory
    attention_flops = shape.attention_flops(work.sequence) / shape.layers * tokens / layout.tensor
    attention_s = attention_flops / speeds.attention
    forward_s = max(products_s + between_s + attention_s, speeds.launch_s)
    backward_s = max(2 * products_s + 2 * between_s + soft.backward_attention * attention_s, 2 * speeds.launch_s)
    again_s = {"none": 0.0, "selective": 0.5 * products_s + between_s, "full": forward_s}[layout.recompute]
    linear_flops = 2.0 * tokens * shape.active_layer_parameters / layout.tensor
    again = {"none": 0.0, "selective": 0.5 * linear_flops, "full": linear_flops + attention_flops}[layout.recompute]
    return Passes(forward_s, backward_s, again_s, attention_s, 3 * (linear_flops + attention_flops) + again)


def output(work: Work, layout: Layout, speeds: Speeds) -> Passes:
    """The passes of the output projection, the loss and the embedding for one micro-batch, on the ranks that hold them.

    Of logits, about ten passes of 4 bytes go through memory (copy to 32 bits, maximum, sum, gradient), four where the loss is fused.
    """
    shape = work.shape
    tokens = layout.micro_batch * work.sequence / layout.context
    flops = 2.0 * tokens * shape.output_parameters / layout.tensor
    logits_s = tokens * shape.vocab / layout.tensor * (16.0 if work.fused_loss else 40.0) / speeds.memory
    product_s = flops / speeds.half
    return Passes(product_s + logits_s / 2, 2 * product_s + logits_s / 2, 0.0, 0.0, 3 * flops)


def _products_s(shape: Shape, layout: Layout, speeds: Speeds, tokens: float) -> float:
    """Seconds of the matrix products of one layer, forward."""
    size = 1.0 if speeds.low == "fp8" else 2.0
    tensor, used = layout.tensor, shape.experts_per_token
    attention = shape.attention_parameters / tensor
    feed = shape.expert_parameters / tensor
    widths = 2 * shape.hidden + (2 * shape.q_width + 2 * shape.kv_width) / tensor
    inner = used * (2 * shape.hidden + (3 if shape.gated else 2) * shape.ffn / tensor)
    weights: float = attention + feed * max(1.0, shape.experts / layout.expert)
    slow: float = 1.0 if shape.experts == 1 else 1.0 / speeds.software.grouped
    flops_s: float = 2.0 * tokens * (attention + feed * used * slow) / speeds.matrix
    moved: float = size * weights + (2.0 + size) / 2 * tokens * (widths + inner)
    return flops_s + moved / speeds.memory


def _between_bytes(work: Work, layout: Layout, speeds: Speeds) -> float:
    """Bytes a token moves through memory between the products of one layer, forward: norms, residuals, rotation, activation, casts."""
    shape, soft = work.shape, speeds.software
    used = shape.experts_per_token
    activation = used * (3 if shape.gated else 2) * shape.ffn
    plain = 2.0 * (8 * shape.hidden + 2 * (shape.q_width + shape.kv_width) + activation)
    if shape.experts > 1:
        plain += 2.0 * 4 * used * shape.hidden  # tokens are brought to their experts and back
    cast = 4.0 * (2 * shape.hidden + shape.q_width + used * shape.ffn) if speeds.low == "fp8" else 0.0
    return (soft.traffic[work.kernels] * plain + soft.cast[work.kernels] * cast) / layout.tensor
