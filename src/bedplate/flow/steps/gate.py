"""The gate step: the user's `evaluate` grades the candidate and production on the same pinned set, and the rule decides.

Training does not grade itself: this runs in a process of its own, from the saved version. The alias moves when the loop accepts the result.
What rules name beyond the user's metrics is measured here: latency, size, and the drift of the training data.
Does not know: how a decision is reached (`models.gate`), signed or recorded (`flow.accept`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bedplate.core.atomic import write_bytes, write_json
from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest
from bedplate.core.errors import SpecError, nearest
from bedplate.core.protocols import Feed
from bedplate.core.settings import read_cache
from bedplate.core.spec import Promote
from bedplate.data.feed.samples import open_feed
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.models.card import card
from bedplate.models.declared_rules import to_compare, to_measure
from bedplate.models.drift import MEASURES
from bedplate.models.expression import FIELD
from bedplate.models.gate import decide
from bedplate.models.grades import Grades, grades
from bedplate.models.measure import latencies_s, size_bytes
from bedplate.train.bundle import ModelVersion

BEFORE = "production.inputs"  # the training set of the version that the alias points to
LATENCY_ROWS = 200


def work(attempt: Attempt) -> int:
    """Evaluate and decide. Returns 0 whatever the decision is."""
    step = StepContext(attempt)
    model = attempt.spec["model"]
    pinned = next(name for name in attempt.inputs if name.endswith(".inputs") and name != BEFORE)
    feed = open_feed(step.path(pinned), *read_cache())
    promote = Promote.model_validate(attempt.spec["promote"])
    candidate = _graded(step, model, feed, promote)
    production = _graded(step, "production", feed, promote) if "production" in attempt.inputs else None
    drift = _drift(step, promote, feed) if production is not None else None
    decision = decide(promote, candidate, production, drift)
    evaluation = {
        "model": model,
        "alias": promote.to,
        "candidate": step.version(model).ref,
        "production": step.version("production").ref if production is not None else None,
        "pinned_set": step.version(pinned).ref,
        "rules": list(promote.when),
        **_found(candidate, production, drift),
        "decision": decision.to_json(),
    }
    step.journal.write("metric", step=0, values=dict(candidate.metrics))
    write_json(attempt.out / "evaluation.json", evaluation)
    write_bytes(attempt.out / "card.md", card(_facts(step, evaluation)).encode())
    step.journal.write("evaluation", **evaluation, digest=digest(evaluation), card=str((attempt.out / "card.md").relative_to(step.state)))
    step.journal.sync()
    return 0


def _found(candidate: Grades, production: Grades | None, drift: Mapping[str, float] | None) -> dict[str, Any]:
    """The numbers on which the decision rests; what was not measured is left out."""
    sliced = {"slices": candidate.slices} if candidate.slices else {}
    if sliced and production is not None:
        sliced["production_slices"] = production.slices
    drifted = {"drift": dict(drift)} if drift else {}
    counted = {"rows": candidate.rows.rows} if candidate.rows is not None else {}
    before = dict(production.metrics) if production is not None else None
    return {"metrics": dict(candidate.metrics), "production_metrics": before, **sliced, **drifted, **counted}


def _graded(step: StepContext, name: str, feed: Feed, promote: Promote) -> Grades:
    """What the user's function says of a version, and what the rules ask the gate to measure."""
    version = ModelVersion(step.path(name), digest=step.version(name).digest)
    graded = grades(load_function(step.attempt.spec["evaluate"])(version, feed))
    asked = to_measure(promote)
    measured = {"size_bytes": size_bytes(step.path(name))} if "size_bytes" in asked else {}
    if asked - {"size_bytes"}:
        predict = load_function(step.attempt.spec["predict"])
        measured |= latencies_s(lambda rows: predict(version, rows), _rows(feed))
    return replace(graded, metrics={**graded.metrics, **{metric: value for metric, value in measured.items() if metric in asked}})


def _rows(feed: Feed) -> list[dict[str, Any]]:
    """The first rows of the pinned set as a request has them: raw values by column name. Raises SpecError for what has no columns."""
    schema = feed.schema
    if schema.kind != "table":
        raise SpecError(
            "a latency is measured on rows of a table", field=FIELD, value=schema.kind, fix="let evaluate return it as a metric"
        )
    batch = next(iter(feed.in_order("test", LATENCY_ROWS)))
    columns = {name: _decoded(feed, name, batch[name]) for name in (*schema.numeric, *schema.categorical)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _decoded(feed: Feed, name: str, values: npt.NDArray[Any]) -> list[Any]:
    if name in feed.schema.categorical:
        words = feed.dictionary(name)
        return [None if code < 0 else words[code] for code in values.tolist()]
    return [None if math.isnan(number) else number for number in values.tolist()]


def _drift(step: StepContext, promote: Promote, feed: Feed) -> dict[str, float]:
    """How far columns of the training data moved since production was trained, by measure and column. Raises SpecError for no column."""
    asked = sorted(to_compare(promote))
    if not asked:
        return {}
    if BEFORE not in step.attempt.inputs:
        fix = "promote a version that was trained here first, or leave the rule out"
        raise SpecError("production has no training data to compare with", field=FIELD, value=asked[0][1], fix=fix)
    before = open_feed(step.path(BEFORE), *read_cache())
    return {f"{measure}({name})": MEASURES[measure](_column(before, name), _column(feed, name)) for measure, name in asked}


def _column(feed: Feed, name: str) -> npt.NDArray[Any]:
    """A column of the train split: float64 with NaN for null, or texts."""
    columns = feed.columns("train")
    if name not in columns:
        raise SpecError("the training data has no such column", field=FIELD, value=name, fix=nearest(name, columns))
    if name in feed.schema.categorical:
        words: npt.NDArray[Any] = np.array([*feed.dictionary(name), "null"])[columns[name]]  # -1 is null
        return words
    column: npt.NDArray[Any] = columns[name]
    return column


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
