"""The time of collective operations, by the ring: n ranks each send (n - 1)/n of the data (Thakur et al. 2005; NCCL's bus bandwidth).

Does not know: what is sent, or what it hides behind (`step`).
"""

from __future__ import annotations

import math

from bedplate.train.planner.efficiency import Software
from bedplate.train.planner.layout import Cluster


def rate(cluster: Cluster, soft: Software, ranks: int, stride: int) -> float:
    """Bytes/s at which a ring of `ranks`, each `stride` apart, passes data on.

    Within a domain that is the fast link; across domains the ring leaves each through the network shares of all its ranks there.
    """
    fast = cluster.device.scale_up_bytes_per_s * soft.scale_up
    if ranks * stride <= cluster.device.domain:
        return fast
    inside = max(1, min(ranks, cluster.device.domain // stride))
    return min(fast, cluster.device.scale_out_bytes_per_s * soft.scale_out * inside)


def gather_s(cluster: Cluster, soft: Software, ranks: int, stride: int, size_bytes: float) -> float:
    """Seconds of an all-gather to (or a reduce-scatter of) `size_bytes` on each rank; an all-reduce is both."""
    if ranks == 1:
        return 0.0
    latency_s = soft.latency_s * math.log2(ranks)
    return size_bytes * (ranks - 1) / ranks / rate(cluster, soft, ranks, stride) + latency_s


def send_s(cluster: Cluster, soft: Software, stride: int, size_bytes: float) -> float:
    """Seconds to send `size_bytes` to the rank that is `stride` further."""
    inside = stride < cluster.device.domain
    link = cluster.device.scale_up_bytes_per_s * soft.scale_up if inside else cluster.device.scale_out_bytes_per_s * soft.scale_out
    return size_bytes / link + soft.latency_s


def all_to_all_s(cluster: Cluster, soft: Software, ranks: int, stride: int, size_bytes: float) -> float:
    """Seconds in which every rank sends `size_bytes` in all, an equal part to each of `ranks`."""
    if ranks == 1:
        return 0.0
    inside = max(1, min(ranks, cluster.device.domain // stride))
    fast = cluster.device.scale_up_bytes_per_s * soft.scale_up
    near_s = size_bytes * (inside - 1) / ranks / fast
    far_s = size_bytes * (ranks - inside) / ranks / (cluster.device.scale_out_bytes_per_s * soft.scale_out)
    return max(near_s, far_s) + soft.latency_s * math.log2(ranks)
