"""A profiled window: torch.profiler over a few steps of a rank, its Chrome trace on disk, its sums in the journal.

The window costs time, and that is measured too: how much longer its steps took than those just before it, and what starting, stopping
and writing took. Timers of the steps in the window are as true as any, but slower; the doctor leaves them in and says so.
Does not know: what the sums mean (`doctor`), or when a run asks for a window (its job's `profile`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from bedplate.core.attempt import Attempt

STEPS: Final = 10
AFTER: Final = 20  # steps first: compilation, caches and allocators have settled
TOP: Final = 12
MOVES: Final = (  # kernels that move or touch elements, and compute next to nothing with each (by parts of their names)
    "elementwise", "vectorized", "copy", "fill", "add", "mul", "sub", "div", "relu", "gelu", "silu", "sigmoid", "tanh", "exp", "pow",
    "norm", "softmax", "dropout", "cat", "memset", "memcpy", "reduce", "sum", "mean", "where", "clone", "contiguous", "sqrt", "lerp",
)  # fmt: skip
COMPUTES: Final = (
    "addmm",
    "baddbmm",
    "addbmm",
    "matmul",
    "::mm",
    "::bmm",
    "gemm",
    "conv",
    "attention",
    "cutlass",
    "flash",
    "nccl",
    "foreach",
)
VIEWS: Final = frozenset(  # operators that touch no element, and are called within others
    f"aten::{name}" for name in (
        "resolve_conj", "resolve_neg", "view", "_unsafe_view", "as_strided", "empty", "empty_strided", "empty_like", "expand", "t",
        "transpose", "reshape", "detach", "slice", "select", "squeeze", "unsqueeze", "permute", "alias", "lift_fresh", "result_type",
        "to", "_to_copy",
        "is_nonzero", "item", "_local_scalar_dense",
    )
)  # fmt: skip

Operation = tuple[str, float, float, float]  # name, begin, duration in microseconds, elements touched (0: not known)


class ProfiledWindow:
    """One window of one rank. `step` is called where a step ends; once, when the window is over, it gives a `profile` entry."""

    def __init__(
        self, folder: Path, rank: int, *, steps: int = STEPS, after: int = AFTER, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Profile `steps` steps once `after` have passed; `folder` gets `rank-N.trace.json`, which chrome://tracing and Perfetto read."""
        self._path = folder / f"rank-{rank}.trace.json"
        self._steps, self._after = steps, max(2, after)
        self._clock = clock
        self._seen = 0
        self._stepped_s: list[float] = []
        self._profile: profile | None = None
        self._cost_s = 0.0
        self._over = False

    def step(self) -> dict[str, Any] | None:
        """A step has ended. Starts, goes on with, or ends the window."""
        if self._over:
            return None
        self._seen += 1
        now_s = self._clock()
        self._stepped_s.append(now_s)
        if self._seen == self._after:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._profile = profile(activities=activities, record_shapes=True)
            self._profile.start()
            self._cost_s = self._clock() - now_s
            self._stepped_s = [*self._stepped_s[-self._after :], self._clock()]
        elif self._profile is not None and self._seen == self._after + self._steps:
            return self._end(now_s)
        return None

    def _end(self, now_s: float) -> dict[str, Any]:
        assert self._profile is not None
        self._over = True
        before = [late - early for early, late in pairwise(self._stepped_s[: self._after])]
        usual_s = median(before[len(before) // 2 :])
        window_s = now_s - self._stepped_s[self._after]
        self._profile.stop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self._path))
        body = summary(json.loads(self._path.read_bytes()), self._steps)
        slower = max(1.0, window_s / self._steps / usual_s) if usual_s > 0 else 1.0
        if body["overlaps"]:
            body["launch_s"] /= slower  # the host is what the profiler slows
        self._profile = None
        cost_s = self._cost_s + max(0.0, window_s - self._steps * usual_s) + self._clock() - now_s
        return {**body, "steps": self._steps, "cost_s": cost_s, "slower": slower, "trace": self._path.name}


def window_of(attempt: Attempt, rank: int) -> ProfiledWindow | None:
    """The window that a job's `profile` asks for; None where it does not, and on ranks other than 0."""
    asked = attempt.spec.get("profile")
    if not asked or rank != 0:
        return None
    return ProfiledWindow(attempt.path / "profile", rank, steps=int(asked["steps"]), after=int(asked["after"]))


def summary(trace: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What a Chrome trace of torch.profiler says of one step: `launches`, `launch_s`, `kernel_s`, `memory_s`, `chain`, `overlaps`, `top`.

    Where there are kernels of a device those are counted; else the operators that call no other, less what calling one costs.
    """
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    kernels = [_operation(event) for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    operators = sorted((_operation(event) for event in events if event.get("cat") == "cpu_op"), key=lambda each: (each[1], -each[2]))
    leaves = _leaves(operators)
    if kernels:
        host_us = _union_us(operators)
        found, launch_us = sorted(kernels, key=lambda each: each[1]), host_us / max(1, len(kernels))
        kernel_us = _union_us(found)
    else:
        found, launch_us = leaves, call_cost_us()
        kernel_us = sum(max(0.0, duration - launch_us) for _, _, duration, _ in found)
    moving = [each for each in found if each[2] > 2 * launch_us and moves(each[0])]
    names: dict[str, float] = {}
    for name, _, duration, _ in found:
        names[name] = names.get(name, 0.0) + duration
    top = sorted(names.items(), key=lambda pair: -pair[1])[:TOP]
    return {
        "launches": len(found) / steps,
        "launch_s": launch_us / 1e6,
        "kernel_s": kernel_us / steps / 1e6,
        "memory_s": sum(each[2] for each in moving) / steps / 1e6,
        "chain": chain_length(found, launch_us),
        "overlaps": bool(kernels),
        "top": [[name, duration / steps / 1e6] for name, duration in top],
    }


def moves(name: str) -> bool:
    """Whether a kernel or operator of that name is bound by memory: it touches each element once or twice and computes little with it."""
    lowered = name.lower()
    return not any(word in lowered for word in COMPUTES) and any(word in lowered for word in MOVES)


def chain_length(operations: Sequence[Operation], launch_us: float) -> float:
    """How many kernels that only move elements follow one another over as many elements, on average over their time; 1 for none."""
    weighted = total = 0.0
    run: list[Operation] = []
    for each in [*operations, ("", 0.0, 0.0, -1.0)]:
        if run and (not moves(each[0]) or each[3] != run[-1][3] or each[2] <= 2 * launch_us):
            duration = sum(member[2] for member in run)
            weighted, total, run = weighted + duration * len(run), total + duration, []
        if moves(each[0]) and each[2] > 2 * launch_us:
            run.append(each)
    return weighted / total if total else 1.0


def call_cost_us(calls: int = 300) -> float:
    """What calling an operator costs on this machine whatever it does: the median over some on one element. Takes about 1 ms."""
    tensor = torch.ones(1)
    times = []
    for _ in range(calls):
        begun_s = time.perf_counter()
        torch.neg(tensor)
        times.append(time.perf_counter() - begun_s)
    return 1e6 * median(times)


def _operation(event: Mapping[str, Any]) -> Operation:
    dimensions = event.get("args", {}).get("Input Dims") or event.get("args", {}).get("grid") or []
    count = 0.0
    for shape in dimensions if dimensions and isinstance(dimensions[0], list) else [dimensions]:
        size = 1.0
        for length in shape if isinstance(shape, list) and all(isinstance(each, int | float) for each in shape) else []:
            size *= length
        count = max(count, size)
    return str(event["name"]), float(event["ts"]), float(event.get("dur", 0.0)), count


def _leaves(operators: Sequence[Operation]) -> list[Operation]:
    """Operators that call no other but views: those whose time holds no other's. In the order of their start."""
    working = [each for each in operators if each[0].startswith("aten::") and each[0] not in VIEWS]
    return [each for each, following in pairwise([*working, ("", float("inf"), 0.0, 0.0)]) if following[1] >= each[1] + each[2]]


def _union_us(operations: Sequence[Operation]) -> float:
    """How long at least one of them was on; they come in the order of their start."""
    total = end = 0.0
    for _, begin, duration, _ in operations:
        total += max(0.0, begin + duration - max(begin, end))
        end = max(end, begin + duration)
    return total
