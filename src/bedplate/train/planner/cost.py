"""What a run of so many tokens takes: time, money and energy. Estimates: of a price list, and of a model of power.

Energy = devices x mean power x time x overheads (Patterson et al. 2021, https://arxiv.org/abs/2104.10350). A device draws `IDLE` of its
design power always and the rest while it computes; the host adds `HOST` of it, the building `BUILDING`.
Does not know: carbon, contracts, or prices of today.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bedplate.train.planner.layout import Cluster
from bedplate.train.planner.step import Prediction

IDLE: Final = 0.25
HOST: Final = 0.25
BUILDING: Final = 1.10  # power usage effectiveness of a modern data center (Patterson et al. 2021, section 2)


@dataclass(frozen=True)
class Bill:
    """Of `tokens` tokens: seconds, device hours, USD at `price_usd_per_h`, kilowatt hours, and where the price comes from."""

    tokens: float
    time_s: float
    device_hours: float
    cost_usd: float
    energy_kwh: float
    price_usd_per_h: float
    price_source: str


def bill(cluster: Cluster, prediction: Prediction, tokens: float, price_usd_per_h: float | None = None) -> Bill:
    """The bill for `tokens` tokens at the predicted rate; without a price, that of the catalog, which is an estimate."""
    device = cluster.device
    price = device.price_usd_per_h if price_usd_per_h is None else price_usd_per_h
    source = "as given" if price_usd_per_h is not None else f"an estimate: {device.cites.get('price', 'the catalog')}"
    time_s = tokens / (prediction.tokens_per_s_per_device * cluster.devices)
    hours = time_s / 3600 * cluster.devices
    return Bill(tokens, time_s, hours, hours * price, hours * mean_power_w(cluster, prediction) / 1000, price, source)


def mean_power_w(cluster: Cluster, prediction: Prediction) -> float:
    """Watts of one device with its share of the host and the building, over a step."""
    design_w = min(cluster.power_limit_w or cluster.device.power_w, cluster.device.power_w)
    busy = prediction.time.compute_s / prediction.time.total_s
    return design_w * (IDLE + (1 - IDLE) * busy) * (1 + HOST) * BUILDING
