"""The gate step: the user's `evaluate` grades the candidate and production on the same pinned set, and the rule decides.

Training does not grade itself: this runs in a process of its own, from the saved version. The alias moves when the loop accepts the result.
Does not know: how a decision is reached (`models.gate`) or recorded (`flow.accept`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bedplate.core.atomic import write_bytes, write_json
from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest
from bedplate.core.errors import JobError
from bedplate.core.protocols import Feed
from bedplate.core.settings import read_cache
from bedplate.core.spec import Promote
from bedplate.data.feed.samples import open_feed
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.models.card import card
from bedplate.models.gate import decide
from bedplate.train.bundle import ModelVersion


def work(attempt: Attempt) -> int:
    """Evaluate and decide. Returns 0 whatever the decision is."""
    step = StepContext(attempt)
    model = attempt.spec["model"]
    pinned = next(name for name in attempt.inputs if name.endswith(".inputs"))
    feed = open_feed(step.path(pinned), *read_cache())
    evaluate = load_function(attempt.spec["evaluate"])
    metrics = _grade(step, evaluate, model, feed)
    production = _grade(step, evaluate, "production", feed) if "production" in attempt.inputs else None
    promote = Promote.model_validate(attempt.spec["promote"])
    decision = decide(promote, metrics, production)
    evaluation = {
        "model": model,
        "alias": promote.to,
        "candidate": step.version(model).ref,
        "production": step.version("production").ref if production is not None else None,
        "pinned_set": step.version(pinned).ref,
        "metrics": metrics,
        "production_metrics": production,
        "decision": decision.to_json(),
    }
    step.journal.write("metric", step=0, values=metrics)
    write_json(attempt.out / "evaluation.json", evaluation)
    write_bytes(attempt.out / "card.md", card(_facts(step, evaluation)).encode())
    step.journal.write("evaluation", **evaluation, digest=digest(evaluation), card=str((attempt.out / "card.md").relative_to(step.state)))
    step.journal.sync()
    return 0


def _grade(step: StepContext, evaluate: Any, name: str, feed: Feed) -> dict[str, float]:
    version = ModelVersion(step.path(name))
    result = evaluate(version, feed)
    if not isinstance(result, Mapping) or not result:
        raise JobError("evaluate must return a mapping of metric names to numbers", value=result, fix='return {"rmse": 12.3}')
    for metric, value in result.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise JobError(f"the metric {metric!r} is not a finite number", value=value, fix="return plain finite floats from evaluate")
    return {metric: float(value) for metric, value in result.items()}


def _facts(step: StepContext, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    model = step.version(evaluation["model"])
    pinned = step.version(evaluation["pinned_set"].rpartition("@")[0])
    return {
        "name": model.name,
        "number": model.number,
        "run": model.run,
        "digest": model.digest,
        "rows": pinned.meta.get("rows"),
        "splits": pinned.meta.get("splits"),
        "params": model.meta.get("params", {}),
        **{field: evaluation[field] for field in ("metrics", "production", "production_metrics", "decision", "pinned_set")},
    }
