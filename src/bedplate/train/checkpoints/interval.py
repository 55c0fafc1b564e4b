"""How often a checkpoint is worth its stall: Young's interval with Daly's correction.

J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974; J. T. Daly, "A higher order estimate of the
optimum checkpoint interval for restart dumps", FGCS 22, 2006. Pure.
Does not know: where stalls and failures were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PRIOR_MTBF_S = 86_400.0  # before anything is known: one lost worker a day for each worker
PRIOR_STALL_S = 0.1
SHORTEST_S = 5.0
LONGEST_S = 3600.0


@dataclass(frozen=True)
class Rates:
    """What is known of a job: seconds between failures of one worker, the measured stall of a checkpoint in seconds, and from how much.

    `failures` and `observed_s` (worker seconds) are what the first was estimated from; `stalls` is how many stalls were measured.
    """

    mtbf_s: float
    stall_s: float
    failures: int = 0
    observed_s: float = 0.0
    stalls: int = 0


def rates(failures: int, observed_s: float, stalls_s: list[float]) -> Rates:
    """Estimates from what was seen. A prior worth one failure keeps few observations from moving them far."""
    mtbf_s = (PRIOR_MTBF_S + observed_s) / (1 + failures)
    stall_s = sorted(stalls_s)[len(stalls_s) // 2] if stalls_s else PRIOR_STALL_S
    return Rates(mtbf_s, stall_s, failures, observed_s, len(stalls_s))


def best_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Seconds of work between two checkpoints that lose the least, within limits (Daly 2006, equation 37)."""
    if stall_s >= 2 * mtbf_s:
        return min(LONGEST_S, max(SHORTEST_S, mtbf_s))
    x = stall_s / (2 * mtbf_s)
    interval_s = math.sqrt(2 * stall_s * mtbf_s) * (1 + math.sqrt(x) / 3 + x / 9) - stall_s
    return min(LONGEST_S, max(SHORTEST_S, interval_s))


def reason(found: Rates, workers: int) -> str:
    """The interval for that many workers, and why, in a few words."""
    interval_s = best_interval_s(found.stall_s, found.mtbf_s / workers)
    stall = f"{'measured' if found.stalls else 'assumed'} stall {found.stall_s * 1000:.0f} ms"
    hours = found.observed_s / 3600
    if found.failures:
        seen = f"{found.failures} failure{'s' if found.failures > 1 else ''} in {hours:.1f} worker hours"
    else:
        seen = f"no failure in {hours:.1f} worker hours, one a day and worker assumed"
    return f"checkpoint every {interval_s:.0f} s ({stall}, {seen})"
