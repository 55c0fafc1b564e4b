"""The reader of the catalog: names and aliases to devices, with the source of every figure.

Does not know: what is measured on a machine at hand, or how fast a model trains on a device.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from bedplate.core.device import Device
from bedplate.core.errors import BedplateError, NotFound, nearest

PRECISIONS: Final = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")
FIELDS: Final = {  # of the table: the unit in which it stands there, in base units
    **dict.fromkeys(PRECISIONS, 1e12),
    "memory": 2**30,
    "memory_bandwidth": 1e9,
    "scale_up": 1e9,
    "domain": 1,
    "scale_out": 1e9,
    "power": 1,
    "price": 1,
}


@cache
def devices() -> Mapping[str, Device]:
    """Every accelerator of the catalog by its name, in the order of the table."""
    table = tomllib.loads(resources.files("bedplate.hardware.catalog").joinpath("accelerators.toml").read_text("utf-8"))
    sources = table.pop("sources")
    return {name: _device(name, entry, sources) for name, entry in table.items()}


def device(name: str) -> Device:
    """The accelerator of that name or alias; case, spaces and underscores do not matter. Raises NotFound."""
    wanted = _plain(name)
    known = {_plain(each): found for found in devices().values() for each in (found.name, *found.aliases)}
    if wanted not in known:
        fix = f"{nearest(name, [*devices(), *known])}; `bedplate catalog` lists them"
        raise NotFound("no such accelerator in the catalog", value=name, fix=fix)
    return known[wanted]


def parse_hardware(text: str) -> tuple[int, Device]:
    """The count and the device of `64 x H100-SXM`, `64xH100`, `8*A100` or `H200` (one). Raises BedplateError and NotFound."""
    match = re.fullmatch(r"\s*(?:([\d_,]+)\s*(?:[x×*]\s*|\s))?\s*([A-Za-z][\w\s.-]*?)\s*", text)
    if match is None:
        raise BedplateError("not a description of hardware", value=text, fix="write a count and a name, for example '64 x H100-SXM'")
    count = int(re.sub(r"[_,]", "", match[1])) if match[1] else 1
    if count < 1:
        raise BedplateError("there must be one accelerator at least", value=text, fix="write a count from 1 on")
    return count, device(match[2])


def matching(model: str) -> Device | None:
    """The accelerator that a driver calls `model` (`NVIDIA H100 80GB HBM3`), or None where the catalog has none like it.

    Of several whose names are in it, the one with the longest name. Vendors' names vary, so this is a best guess.
    """
    plain = _plain(model)
    names = [(alias, found) for found in devices().values() for alias in map(_plain, (found.name, *found.aliases)) if alias in plain]
    return max(names, key=lambda pair: len(pair[0]))[1] if names else None


def _device(name: str, entry: Mapping[str, Any], sources: Mapping[str, str]) -> Device:
    figures = {field: entry[field][0] * unit for field, unit in FIELDS.items() if field in entry}
    return Device(
        name=name,
        vendor=entry["vendor"],
        peak_flops={field: figures[field] for field in PRECISIONS if field in figures},
        memory_bytes=int(figures["memory"]),
        memory_bytes_per_s=figures["memory_bandwidth"],
        scale_up_bytes_per_s=figures["scale_up"],
        domain=int(figures["domain"]),
        scale_out_bytes_per_s=figures["scale_out"],
        power_w=figures["power"],
        price_usd_per_h=figures["price"],
        aliases=tuple(entry.get("aliases", ())),
        cites={field: sources[entry[field][1]] for field in FIELDS if field in entry},
        estimated=tuple(field for field in FIELDS if field in entry and entry[field][2:] == ["estimate"]),
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())
