"""Fits the constants of the planner to published throughput and prints them: `python tools/fit_planner.py [--without SOURCE]`.

Coordinate descent in logarithms on a robust loss in which each source counts by the square root of its rows, pulled softly to where it
begins. No constant belongs to a row: there is one for each kind of accelerator and precision, and one set for software.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bedplate.train.planner.efficiency import Constants, Efficiency, Software
from train.planner.published import Case, cases

BOUNDS = {"matrix": (0.3, 0.95), "attention": (0.1, 0.9), "overlap": (0.3, 0.95), "contention": (0.02, 0.6), "tensor_overlap": (0.3, 0.95)}
BOUNDS |= {"scale_up": (0.4, 0.82), "scale_out": (0.4, 0.85), "clocks": (0.2, 0.8), "jitter": (0.001, 0.02), "traffic": (0.7, 4.0)}
BOUNDS |= {"cast": (0.5, 8.0), "attention_of": (0.2, 1.2), "expert_overlap": (0.05, 0.9), "grouped": (0.4, 1.0), "memory": (0.7, 0.9)}
_BLACKWELL = Efficiency({"bf16": 0.7, "fp8": 0.6}, 0.5)
START = Constants(
    {
        "A100-80GB-SXM": Efficiency({"bf16": 0.82}, 0.5),
        "A100-40GB-SXM": Efficiency({"bf16": 0.82}, 0.5),
        "H100-SXM": Efficiency({"bf16": 0.7, "fp8": 0.6}, 0.5),
        "H200-SXM": Efficiency({"bf16": 0.7, "fp8": 0.6}, 0.5),
        "B200": _BLACKWELL,
        "GB200": _BLACKWELL,
    },
    Software(
        traffic={"eager": 2.0, "compiled": 1.2, "fused": 1.0},
        cast={"eager": 2.0, "compiled": 2.0, "fused": 1.0},
        attention={"eager": 0.6, "compiled": 0.7, "fused": 1.0},
        scale_up=0.7,
        scale_out=0.7,
        overlap=0.9,
        contention=0.2,
        tensor_overlap=0.6,
        clocks=0.45,
        jitter=0.006,
        grouped=0.7,
    ),
)  # what the literature leads to expect, before any fit
PRIOR = 0.004  # loss for a factor e away from the start


def parameters(start: Constants) -> dict[str, float]:
    """The constants to be fitted by name."""
    found = {}
    for name, own in start.devices.items():
        if name != "H200-SXM":  # the chip of the H100: too few rows of its own
            found |= {f"matrix/{name}/{precision}": value for precision, value in own.matrix.items() if not _borrowed(name, precision)}
            found[f"attention/{name}"] = own.attention
    soft = start.software
    found |= {f"traffic//{kernels}": value for kernels, value in soft.traffic.items()}
    found |= {f"cast//{kernels}": value for kernels, value in soft.cast.items()}
    found |= {f"attention_of//{kernels}": soft.attention[kernels] for kernels in ("eager", "compiled")}
    names = ("scale_up", "scale_out", "overlap", "contention", "tensor_overlap", "clocks", "jitter", "grouped")
    return found | {f"{name}//": getattr(soft, name) for name in names}


def _borrowed(name: str, precision: str) -> bool:
    return name in ("B200", "GB200") and precision == "bf16"  # no published rows: that of the H100


def constants(values: dict[str, float], start: Constants) -> Constants:
    """Constants made of the fitted values."""
    devices = {}
    for name, own in start.devices.items():
        source = "H100-SXM" if name == "H200-SXM" else name
        matrix = {
            precision: values[f"matrix/{'H100-SXM' if _borrowed(name, precision) else source}/{precision}"] for precision in own.matrix
        }
        devices[name] = Efficiency(matrix, values[f"attention/{source}"])
    soft = start.software
    maps = {kind: {k: values.get(f"{kind}//{k}", v) for k, v in getattr(soft, kind).items()} for kind in ("traffic", "cast")}
    attention = {k: values.get(f"attention_of//{k}", v) for k, v in soft.attention.items()}
    plain = {name.removesuffix("//"): value for name, value in values.items() if name.endswith("//")}
    return Constants(devices, replace(soft, **maps, attention=attention, **plain))


def loss(values: dict[str, float], rows: Sequence[Case], start: Constants, first: dict[str, float]) -> float:
    """A weighted mean of |log(predicted / measured)|, smooth near 0, and the pull of the start."""
    model = constants(values, start)
    counts = Counter(case.source for case in rows)
    total = weight = 0.0
    for case in rows:
        own = counts[case.source] ** -0.5
        gap = math.log(1 + case.error(model))
        total, weight = total + own * (math.sqrt(gap * gap + 0.0025) - 0.05), weight + own
    return total / weight + PRIOR * sum(math.log(values[name] / first[name]) ** 2 for name in values)


def fit(rows: Sequence[Case], start: Constants, sweeps: int = 12, say: Callable[[str], Any] = lambda _: None) -> Constants:
    """The constants fitted to `rows`."""
    first = parameters(start)
    values, step = dict(first), dict.fromkeys(first, 0.12)
    best = loss(values, rows, start, first)
    for sweep in range(sweeps):
        for name in values:
            low, high = BOUNDS[name.split("/")[0]]
            for factor in (math.exp(step[name]), math.exp(-step[name])):
                tried = {**values, name: min(high, max(low, values[name] * factor))}
                found = loss(tried, rows, start, first)
                if found < best:
                    values, best = tried, found
                    step[name] *= 1.3
                    break
            else:
                step[name] *= 0.5
        say(f"sweep {sweep}: {best:.5f}")
    return constants(values, start)


def mean_error(rows: Sequence[Case], model: Constants) -> float:
    """The mean absolute percentage error of tokens a second, as a fraction."""
    return sum(abs(case.error(model)) for case in rows) / len(rows)


def leave_one_source_out(sweeps: int = 8) -> dict[str, tuple[int, float]]:
    """Of every publisher: rows, and the mean error on them of constants fitted to the others."""
    found = {}
    for publisher in dict.fromkeys(case.source.partition("-")[0] for case in cases()):
        held = [case for case in cases() if case.source.partition("-")[0] == publisher]
        rest = [case for case in cases() if case.source.partition("-")[0] != publisher]
        found[publisher] = len(held), mean_error(held, fit(rest, START, sweeps))
    return found


def show(model: Constants) -> str:
    """The constants as Python text with four digits."""
    rounded = {n: Efficiency({p: round(v, 4) for p, v in e.matrix.items()}, round(e.attention, 4)) for n, e in model.devices.items()}
    soft: dict[str, Any] = {}
    for name, value in vars(model.software).items():
        soft[name] = {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else float(f"{value:.4g}")
    return f"{rounded}\n{Software(**soft)}"


if __name__ == "__main__":
    if "--held-out" in sys.argv:
        for publisher, (count, error) in leave_one_source_out().items():
            print(f"{publisher}: {count} rows held out, {error:.1%}")
    else:
        fitted = fit(cases(), START, say=print)
        print(show(fitted), f"\nmean error {mean_error(cases(), START):.1%} before, {mean_error(cases(), fitted):.1%} after")
