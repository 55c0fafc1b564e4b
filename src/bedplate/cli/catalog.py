"""`bedplate catalog`: the accelerators that a plan can be made for.

Does not know: where their figures come from; every one carries its source.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, show, table
from bedplate.core.device import Device
from bedplate.flow.predicting import accelerators

HEADER = ("name", "fp32", "16 bits", "fp8", "int8", "memory GiB", "GB/s", "links GB/s", "domain", "network GB/s", "W", "USD/h")


def catalog(
    names: Annotated[list[str] | None, typer.Argument(help="show these with the source of every figure; none: a table of all")] = None,
    as_json: AsJson = False,
) -> None:
    """Accelerators with their published figures: dense peak in TFLOP/s, memory, bandwidth, links, power, and an estimated price.

    Example: bedplate catalog H100-SXM
    """
    found = accelerators(names or [])
    text = "\n\n".join(map(_one, found)) if names else table(HEADER, list(map(_row, found)))
    show([asdict(device) for device in found], text, as_json)


def _row(device: Device) -> tuple[str, ...]:
    peaks = [f"{device.peak_flops[name] / 1e12:,.5g}" if name in device.peak_flops else "-" for name in (device.half, "fp8", "int8")]
    return (
        device.name,
        f"{device.peak_flops['fp32'] / 1e12:,.4g}",
        *peaks,
        f"{device.memory_bytes / 2**30:.0f}",
        f"{device.memory_bytes_per_s / 1e9:,.0f}",
        f"{device.scale_up_bytes_per_s / 1e9:,.0f}",
        f"{device.domain:,}",
        f"{device.scale_out_bytes_per_s / 1e9:.4g}",
        f"{device.power_w:.0f}",
        f"{device.price_usd_per_h:.2f}",
    )


def _one(device: Device) -> str:
    """One accelerator, a line a figure, with its source."""
    values = {**{name: f"{flops / 1e12:,.5g} TFLOP/s, dense" for name, flops in device.peak_flops.items()}}
    values |= {
        "memory": f"{device.memory_bytes / 2**30:.0f} GiB",
        "memory_bandwidth": f"{device.memory_bytes_per_s / 1e9:,.0f} GB/s",
        "scale_up": f"{device.scale_up_bytes_per_s / 1e9:,.0f} GB/s one way",
        "domain": f"{device.domain:,} devices",
        "scale_out": f"{device.scale_out_bytes_per_s / 1e9:.4g} GB/s one way",
        "power": f"{device.power_w:.0f} W",
        "price": f"{device.price_usd_per_h:.2f} USD an hour",
    }
    rows = [(name, value, "estimate" if name in device.estimated else "", device.cites[name]) for name, value in values.items()]
    return f"{device.name} ({device.vendor})\n" + table(("figure", "value", "", "source"), rows)
