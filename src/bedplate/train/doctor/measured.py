"""What was measured of a run, laid out for the rules: seconds a step, by stretch of steps, rank and span.

Does not know: what any of it means (`rules`), or where rows come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bedplate.train.mesh import Mesh
from bedplate.train.timers import SPANS

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

STRETCHES: Final = 200  # into so many the measured steps are cut, at most
WARM_UP_SHARE: Final = 0.05
WARM_UP_STEPS: Final = (2, 50)  # at least and at most: compilation, caches, the first allocation


@dataclass(frozen=True)
class Profile:
    """What a profiled window of a few steps said, for one step of one rank.

    `launches` kernels (on a CPU: operators), each costing the host `launch_s`; `kernel_s` in them; `memory_s` of that in kernels that only
    move and touch elements, which come in chains of `chain` kernels over the same tensors. `overlaps`: whether kernels run while the host
    launches others, as on an accelerator; on a CPU one waits for the other. `cost_s` is what the window cost the run;
    it had `steps` steps, the last of which was number `last` (0: not known).
    """

    launches: float
    launch_s: float
    kernel_s: float
    memory_s: float = 0.0
    chain: float = 1.0
    overlaps: bool = True
    cost_s: float = 0.0
    steps: int = 0
    last: int = 0
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Reference:
    """What a healthy run of the same job would show, as far as it is known, and who says so.

    Seconds a step for `input_s` and `communication_s` (0: all of it could be hidden); `mtbf_s` mean seconds between failures.
    """

    input_s: float = 0.0
    communication_s: float = 0.0
    mtbf_s: float = 24 * 3600.0
    source: str = "nothing to compare with: all of it counts"


@dataclass(frozen=True)
class Measured:
    """`spans` is float64 [stretches, ranks, spans] in seconds a step, `steps` int [stretches] how many steps each stretch has.

    `stage` and `replica` say where each rank sits; ranks of one replica and different stages form a pipeline of `stages_per_rank` parts a
    rank. `noise` is float64 [ranks]: the standard deviation of one step's own work. `counters` are float64 [ranks] by name, a step.
    """

    spans: Array
    steps: Indices
    stage: Indices
    replica: Indices
    delay: Array
    micro_batches: int = 1
    stages_per_rank: int = 1
    noise: Array = field(default_factory=lambda: np.zeros(1))
    counters: Mapping[str, Array] = field(default_factory=dict)
    checkpoints: int = 0
    profile: Profile | None = None
    reference: Reference = field(default_factory=Reference)

    def of(self, *names: str) -> Array:
        """Seconds a step in these spans together: float64 [stretches, ranks]."""
        found: Array = self.spans[:, :, [SPANS.index(name) for name in names]].sum(axis=2)
        return found

    @property
    def ranks(self) -> int:
        """How many ranks."""
        return int(self.spans.shape[1])

    @property
    def step_s(self) -> Array:
        """The wall time of a step: float64 [stretches]; the mean over ranks, which keep step."""
        found: Array = self.spans.sum(axis=2).mean(axis=1)
        return found

    def mean(self, values: Array) -> float:
        """The mean over stretches, each counted by its steps."""
        return float(np.average(values, weights=self.steps))


def measured(
    rows: Sequence[Sequence[Mapping[str, Any]]],
    mesh: Mesh | None = None,
    *,
    checkpoints: int = 0,
    profile: Profile | None = None,
    reference: Reference | None = None,
) -> Measured | None:
    """The `timing` rows of each rank (all of one generation) side by side; None where the ranks have no ten steps in common.

    Rows of different ranks need not cover the same steps: each span's running total is read off at common steps. The first steps are
    left out, and those of a profiled window: it makes them slow. `checkpoints` is how many were written in these steps.
    """
    curves = [_Curve.of(each) for each in rows]
    if not curves or any(curve is None for curve in curves):
        return None
    known = [curve for curve in curves if curve is not None]
    first, last = max(curve.edges[0] for curve in known), min(curve.edges[-1] for curve in known)
    least, most = WARM_UP_STEPS
    first += min(most, max(least, round(WARM_UP_SHARE * (last - first))))
    if last - first < 8:
        return None
    edges = np.unique(np.linspace(first, last, min(STRETCHES, int(last - first)) + 1).round())
    kept = _outside(known, edges, profile)
    if np.diff(edges)[kept].sum() < 8:
        return None
    steps = np.diff(edges)[kept]
    spans = np.stack([curve.read(curve.spans, edges)[kept] / steps[:, None] for curve in known], axis=1)
    names = [name for name in known[0].counted if all(name in curve.counted for curve in known)]
    counters = {name: np.array([(curve.grown(name, first, last)) / (last - first) for curve in known]) for name in names}
    placed = mesh if mesh is not None and mesh.world_size == len(known) else Mesh(data=len(known))
    at = [placed.coordinates(rank) for rank in range(len(known))]
    replicas = {where: number for number, where in enumerate(dict.fromkeys((c.data, c.shard, c.context, c.tensor) for c in at))}
    return Measured(
        spans=np.maximum(spans, 0.0),
        steps=steps.astype(np.int64),
        stage=np.array([c.pipeline for c in at]),
        replica=np.array([replicas[c.data, c.shard, c.context, c.tensor] for c in at]),
        delay=np.stack([np.diff(np.interp(edges, curve.edges, curve.delay))[kept] / steps for curve in known], axis=1),
        micro_batches=max(known[0].micro_batches, placed.pipeline_micro_batches),
        stages_per_rank=placed.stages_per_rank,
        noise=np.array([curve.noise_s(first) for curve in known]),
        counters=counters,
        checkpoints=checkpoints,
        profile=profile,
        reference=reference or Reference(),
    )


def _outside(curves: Sequence[_Curve], edges: Array, profile: Profile | None) -> npt.NDArray[np.bool_]:
    """Which stretches between `edges` have no step of the profiled window, nor of an entry that sums such a step up with others."""
    if profile is None or not profile.last:
        return np.ones(len(edges) - 1, dtype=bool)
    begun, ended = profile.last - profile.steps - 1, profile.last + 1
    begun = min(int(curve.edges[max(0, int(np.searchsorted(curve.edges, begun, side="right")) - 1)]) for curve in curves)
    ended = max(int(curve.edges[min(len(curve.edges) - 1, int(np.searchsorted(curve.edges, ended)))]) for curve in curves)
    found: npt.NDArray[np.bool_] = (edges[1:] <= begun) | (edges[:-1] >= ended)
    return found


@dataclass(frozen=True)
class _Curve:
    """The running totals of one rank after the steps `edges`."""

    edges: Array
    spans: Array
    delay: Array
    per: Array
    micro_batches: int
    counted_edges: Array
    counted: Mapping[str, Array]

    @staticmethod
    def of(rows: Sequence[Mapping[str, Any]]) -> _Curve | None:
        """From the rows of one rank; None without a step."""
        stepped = [row for row in rows if row["steps"]]
        if not stepped:
            return None
        counts: list[int] = []
        seconds: list[list[float]] = []
        delays: list[float] = [0.0]
        for row in stepped:
            entries = -(-row["steps"] // row["per"])
            counts += [row["per"]] * (entries - 1) + [row["steps"] - row["per"] * (entries - 1)]
            seconds += [[row["spans"].get(name, _NOTHING[:entries])[index] / 1e6 for name in SPANS] for index in range(entries)]
            delays += [each / 1e6 for each in row.get("delay", _NOTHING[:entries])]
        start = stepped[0]["step"] - stepped[0]["steps"]
        edges = start + np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
        totals = np.vstack([np.zeros(len(SPANS)), np.cumsum(np.array(seconds), axis=0)])
        counted_edges = np.array([start, *(row["step"] for row in stepped)], dtype=np.float64)
        names = stepped[0].get("counters", {})
        counted = {name: np.cumsum([0.0, *(row.get("counters", {}).get(name, 0.0) for row in stepped)]) for name in names}
        return _Curve(
            edges, totals, np.cumsum(delays), np.array(counts, dtype=np.float64), int(stepped[-1]["micro_batches"]), counted_edges, counted
        )

    def read(self, totals: Array, edges: Array) -> Array:
        """How much each span grew between `edges`: float64 [stretches, spans]."""
        columns = [np.interp(edges, self.edges, totals[:, column]) for column in range(totals.shape[1])]
        return np.diff(np.stack(columns, axis=1), axis=0)

    def grown(self, name: str, first: float, last: float) -> float:
        """How much a counter grew from the step `first` to `last`."""
        low, high = np.interp([first, last], self.counted_edges, self.counted[name])
        return float(high - low)

    def noise_s(self, first: float) -> float:
        """The standard deviation of one step's own work, from how entries of several steps differ; robust against single spikes."""
        own = [SPANS.index(name) for name in ("input", "compute", "optimizer", "host")]
        seconds = np.diff(self.spans[:, own].sum(axis=1)) / self.per
        late = self.edges[:-1] >= first
        if late.sum() < 4:
            return 0.0
        differences = np.diff(seconds[late])  # of neighbors: a drift is no noise
        spread = 1.4826 * float(np.median(np.abs(differences))) / np.sqrt(2)
        return float(spread * np.sqrt(np.median(self.per[late])))


_NOTHING: Final = (0.0,) * 4096
