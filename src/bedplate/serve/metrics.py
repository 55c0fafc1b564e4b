"""What an endpoint counts of its answers, and how Prometheus reads it: the text format, version 0.0.4.

Does not know: what is counted, or who reads it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
KEPT = 4096

Labels = Mapping[str, str]
Samples = Iterable[tuple[str, Labels, float]]


class Latencies:
    """A histogram of latencies since the start, and the newest `KEPT` of them with their times, for percentiles of a window."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0
        self._newest: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def add(self, at_s: float, latency_s: float) -> None:
        """One answer that was given at `at_s`."""
        self.counts[bisect_left(BOUNDS_S, latency_s)] += 1
        self.sum_s += latency_s
        self._newest.append((at_s, latency_s))

    def p99_s(self, since_s: float) -> float | None:
        """What the slowest percent of the answers since `since_s` took at least; None when there were none."""
        taken = sorted(latency_s for at_s, latency_s in list(self._newest) if at_s >= since_s)
        return taken[min(len(taken) - 1, int(0.99 * len(taken)))] if taken else None

    def samples(self, labels: Labels) -> Iterable[tuple[str, Labels, float]]:
        """As a histogram of Prometheus: suffix, labels, value."""
        total = 0
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self.counts, strict=True):
            total += count
            yield "_bucket", {**labels, "le": bound}, total
        yield "_sum", labels, round(self.sum_s, 6)
        yield "_count", labels, total


@dataclass
class Count:
    """What one side answered since the router, or the step of a rollout, began."""

    requests: int = 0
    errors: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    def add(self, status: int, at_s: float, latency_s: float) -> None:
        """One answer; errors are those that are the server's fault, but for being told to ask again later."""
        self.requests += 1
        self.errors += status >= 500 and status != 503
        self.latencies.add(at_s, latency_s)


@dataclass
class Meter:
    """What one process answers: what it has answered, requests that are under way, and those that were told to ask again later."""

    count: Count = field(default_factory=Count)
    in_flight: int = 0
    refused: int = 0

    def add(self, status: int, at_s: float, latency_s: float) -> None:
        """One answer."""
        self.refused += status == 503
        self.count.add(status, at_s, latency_s)


def answered(sides: Iterable[tuple[Labels, Count]]) -> str:
    """Requests, errors and latencies of each side, as Prometheus reads them."""
    sides = list(sides)
    requests: Samples = [("", labels, one.requests) for labels, one in sides]
    errors: Samples = [("", labels, one.errors) for labels, one in sides]
    spans = [sample for labels, one in sides for sample in one.latencies.samples(labels)]
    return (
        family("bedplate_endpoint_requests_total", "counter", "Requests answered.", requests)
        + family("bedplate_endpoint_errors_total", "counter", "Requests that failed.", errors)
        + family("bedplate_endpoint_latency_seconds", "histogram", "How long replicas took to answer.", spans)
    )


def numbers(labels: Labels, kind: str, values: Mapping[str, tuple[float, str]]) -> str:
    """Gauges or counters of an endpoint, each with what it means."""
    return "".join(family(f"bedplate_endpoint_{name}", kind, meaning, [("", labels, value)]) for name, (value, meaning) in values.items())


def family(name: str, kind: str, meaning: str, samples: Samples) -> str:
    """One metric in the text format: what it means, its type, and its samples (suffix of the name, labels, value)."""
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{suffix}{_shown(labels)} {value:g}" for suffix, labels, value in samples]
    return "\n".join(lines) + "\n"


def _shown(labels: Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""
