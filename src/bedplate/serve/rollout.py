"""When a new version of an endpoint gets more requests, and when it is taken back: one pure function of what was seen and of time.

A version that fails too often or answers too late goes back at once, at any step, once it was asked often enough to tell. A step ends with
its time when enough was seen. Whether a share of errors is too high is asked of the lower end of its 95% interval (Wilson 1927, "Probable
inference, the law of succession, and statistical inference"), so that one failure among few requests is no verdict.
Does not know: requests, replicas, aliases, or the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from bedplate.core.spec import Rollout

PATIENCE = 10  # a step that saw too few requests ends after as many times its length
Z = 1.96

Outcome = Literal["open", "done", "back"]


@dataclass(frozen=True)
class Seen:
    """What was seen of the new version since its step began: requests, those that failed, and the latency of the slowest percent."""

    requests: int = 0
    errors: int = 0
    p99_s: float | None = None


@dataclass(frozen=True)
class Stage:
    """Where a rollout is: the number of its step, when that began (seconds since the epoch), what came of it all, and why."""

    step: int
    begun_at_s: float
    outcome: Outcome = "open"
    why: str = ""

    def share(self, rollout: Rollout) -> float:
        """The share of requests that the new version answers now, from 0 to 1."""
        if self.outcome != "open":
            return 1.0 if self.outcome == "done" else 0.0
        return rollout.shares[self.step]

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, from which `Stage(**values)` makes it again."""
        return {"step": self.step, "begun_at_s": self.begun_at_s, "outcome": self.outcome, "why": self.why}


def begun(rollout: Rollout, now_s: float) -> Stage:
    """The first stage."""
    return Stage(0, now_s, why=f"{rollout.kind}, step 1 of {len(rollout.shares)}")


def advanced(rollout: Rollout, stage: Stage, seen: Seen, now_s: float) -> Stage:
    """The stage that follows, or the same one. `seen` counts from the beginning of the step."""
    if stage.outcome != "open":
        return stage
    fault = _fault(rollout, seen)
    if fault:
        return replace(stage, outcome="back", why=fault)
    lasted_s = now_s - stage.begun_at_s
    enough = seen.requests >= rollout.requests
    if lasted_s < rollout.every_s * (1 if enough else PATIENCE):
        return stage
    told = f"{seen.requests} requests, {seen.errors} errors" + ("" if enough else f", after {PATIENCE} times {rollout.every}")
    if stage.step + 1 == len(rollout.shares):
        return replace(stage, outcome="done", why=told)
    return Stage(stage.step + 1, now_s, why=told)


def _fault(rollout: Rollout, seen: Seen) -> str:
    """What speaks against the new version; empty: nothing that is certain."""
    rule = rollout.rollback
    if seen.requests and _least_share(seen.errors, seen.requests) > rule.error_share:
        return f"{seen.errors} of {seen.requests} requests failed, more than {rule.error_rate}"
    late = rule.p99_s is not None and seen.p99_s is not None and seen.p99_s > rule.p99_s
    if late and seen.requests >= rollout.requests:
        return f"the slowest percent takes {seen.p99_s:.3g} s, more than {rule.p99}"
    return ""


def _least_share(count: int, of: int) -> float:
    """The lower end of the Wilson interval of `count` among `of`."""
    share, square = count / of, Z * Z
    middle = share + square / (2 * of)
    width = Z * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, (middle - width) / (1 + square / of))
