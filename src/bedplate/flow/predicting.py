"""The planner without a project: a model, hardware and a batch, in words, to meshes with their time, memory and cost.

Where the catalog of `hardware` and the planner of `train` meet. Does not know: projects, pools or runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from bedplate.core.clock import duration_s
from bedplate.core.device import Device
from bedplate.core.errors import BedplateError, nearest
from bedplate.hardware.catalog.reader import device, devices, parse_hardware
from bedplate.train.planner.cost import bill
from bedplate.train.planner.efficiency import FITTED
from bedplate.train.planner.layout import RECOMPUTES, Cluster, Kernels, Precision, Work
from bedplate.train.planner.presets import preset
from bedplate.train.planner.report import Report
from bedplate.train.planner.search import search
from bedplate.train.planner.shape import Shape, from_config

_UNITS: Final = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}
_AXES: Final = ("data", "shard", "tensor", "pipeline", "context", "expert", "zero", "stages_per_rank")


@dataclass(frozen=True)
class Question:
    """What is asked, as a person writes it; `hardware` like `64 x H100-SXM`, `mesh` like `tensor=8,pipeline=4` for what is settled."""

    model: str
    hardware: str
    seq: int | None = None
    batch: int | None = None
    precision: str = "bf16"
    kernels: str = "compiled"
    mesh: str | None = None
    micro_batch: int | None = None
    recompute: str | None = None
    storage: str | None = None
    bytes_per_token: float = 4.0
    checkpoint_every: str | None = None
    tokens: str = "1B"
    price: float | None = None
    power_limit: float | None = None


def answer(question: Question) -> Report:
    """The best meshes, why the others lose, and the bill. Touches no hardware. Raises BedplateError for what it does not understand."""
    count, kind = parse_hardware(question.hardware)
    shape = _shape(question.model)
    cluster = Cluster(kind, count, question.power_limit)
    work = _work(question, shape, count)
    found = search(work, cluster, _fixed(question))
    tokens = quantity(question.tokens, "tokens")
    charge = bill(cluster, found.best[0], tokens, question.price) if found.best else None
    return Report(work, cluster, found, charge, tuple(_remarks(work, cluster, found.best)))


def quantity(text: str, what: str) -> float:
    """The number in `15T`, `300B`, `2e9` or `1000`. Raises BedplateError."""
    match = re.fullmatch(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*([KMBGTP]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise BedplateError(f"not a number of {what}", value=text, fix="write for example 15T, 300B or 2e9")
    return float(match[1]) * _UNITS[match[2].upper()]


def bandwidth(text: str) -> float:
    """Bytes/s of `2GB/s`, `500 MB/s` or `100Gb/s` (bits with a small b). Raises BedplateError."""
    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGTkmgt]?)i?([bB])(?:/s|ps)?\s*", text)
    if match is None:
        raise BedplateError("not a bandwidth", value=text, fix="write for example 2GB/s, or 100Gb/s for bits")
    return float(match[1]) * _UNITS[match[2].upper()] / (8 if match[3] == "b" else 1)


def accelerators(names: Sequence[str] = ()) -> list[Device]:
    """The accelerators of these names in the catalog; all of it for none. Raises NotFound."""
    return [device(name) for name in names] if names else list(devices().values())


def _shape(model: str) -> Shape:
    path = Path(model)
    if path.suffix != ".json":
        return preset(model)
    if not path.is_file():
        raise BedplateError("there is no such file with a model's configuration", value=model, fix="give the path of a config.json")
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BedplateError(f"the model's configuration is no JSON: {error}", value=model, fix="give a config.json") from error
    return from_config(config, path.stem)


def _work(question: Question, shape: Shape, count: int) -> Work:
    _one_of("precision", question.precision, get_args(Precision))
    _one_of("kernels", question.kernels, get_args(Kernels))
    fused = question.kernels == "fused"
    return Work(
        shape=shape,
        sequence=_positive("seq", question.seq or 4096),
        batch=_positive("batch", question.batch or max(count, 256 - 256 % count)),
        precision=question.precision,  # type: ignore[arg-type]  # one of the literals, checked above
        kernels=question.kernels,  # type: ignore[arg-type]  # likewise
        fused_loss=fused,
        overlap_tensor=fused,
        gradient_bytes=2.0 if fused else 4.0,
        bytes_per_token=question.bytes_per_token,
        storage_bytes_per_s=bandwidth(question.storage) if question.storage else math.inf,
        checkpoint_every_s=duration_s(question.checkpoint_every) if question.checkpoint_every else math.inf,
    )


def _fixed(question: Question) -> dict[str, Any]:
    """The fields of a layout that the question settles."""
    fixed: dict[str, Any] = {}
    for pair in filter(None, re.split(r"[,\s]+", question.mesh or "")):
        name, _, size = pair.partition("=")
        if name not in _AXES:
            raise BedplateError("a mesh has no such axis", value=name, fix=nearest(name, _AXES))
        if not size.isdigit() or (int(size) < 1 and name != "zero"):
            raise BedplateError("an axis of a mesh is a whole number from 1 on", value=pair, fix=f"write for example {name}=2")
        fixed[name] = int(size)
    if question.micro_batch is not None:
        fixed["micro_batch"] = _positive("micro-batch", question.micro_batch)
    if question.recompute is not None:
        _one_of("recompute", question.recompute, RECOMPUTES)
        fixed["recompute"] = question.recompute
    return fixed


def _remarks(work: Work, cluster: Cluster, best: Sequence[Any]) -> list[str]:
    found = []
    if not FITTED.of(cluster.device).fitted:
        found.append(f"no training throughput on {cluster.device.name} was at hand to fit the model to: read these figures as rough")
    if work.precision == "fp8" and "fp8" not in cluster.device.peak_flops:
        found.append(f"{cluster.device.name} has no fp8: computed in {cluster.device.half}")
    if best and best[0].time.input_s > 0:
        need = work.tokens * work.bytes_per_token / (best[0].time.total_s - best[0].time.input_s)
        found.append(f"the storage holds it back: without waiting it would read {need / 1e9:.2f} GB/s")
    guessed = [name for name in cluster.device.estimated if name != "price"]
    if guessed:
        found.append(
            f"of {cluster.device.name} nobody publishes {', '.join(guessed)}: estimates, see `bedplate catalog {cluster.device.name}`"
        )
    return found


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise BedplateError(f"no such {name}", value=value, fix=nearest(value, known))


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise BedplateError(f"--{name} must be from 1 on", value=value, fix=f"write for example --{name} 1")
    return value
