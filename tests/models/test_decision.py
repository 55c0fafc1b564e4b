"""What a decision's statement holds, and for which version and alias it speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.core.digest import digest
from bedplate.core.versions import Version
from bedplate.models.decision import PREDICATE_TYPE, decided, objection, verdict_of

DELAY = Version("delay", 7, "model", "7" * 64, "runs/fit-1/1/out/model", "fit-1", 1.7e9)
GOOD = {
    "by": "gate",
    "promoted": True,
    "why": "promoted: rmse <= 20 holds (15 against 20)",
    "checks": [{"text": "rmse <= 20", "holds": True}],
}
FOUND = {"rules": ["rmse <= 20"], "metrics": {"rmse": 15.0}, "production_metrics": None, "slices": {"carrier": {"AA": {"rmse": 14.0}}}}
SAID = decided(DELAY, "production", GOOD, 1.7e9, FOUND, {"production": None, "evaluationSet": {"name": "fit.inputs@3", "digest": "e"}})


def test_the_statement_has_everything_that_the_verdict_rests_on() -> None:
    told = SAID["predicate"]
    assert SAID["subject"] == [{"name": "delay@7", "digest": {"sha256": "7" * 64}}]
    assert told["rules"] == {"when": ["rmse <= 20"], "sha256": digest(["rmse <= 20"])}
    assert told["metrics"] == {"rmse": 15.0} and told["slices"] == FOUND["slices"] and "production_metrics" not in told
    assert told["checks"] == GOOD["checks"] and told["verdict"] == "promoted" and told["decidedBy"] == "gate"
    assert told["decidedAt"] == "2023-11-14T22:13:20.000Z"
    assert told["evaluationSet"] == {"name": "fit.inputs@3", "digest": "e"} and told["production"] is None


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [({"promoted": True}, "promoted"), ({"promoted": False}, "refused"), ({"promoted": False, "pending": ["ann"]}, "pending")],
)
def test_the_three_verdicts(decision: dict[str, object], verdict: str) -> None:
    assert verdict_of(decision) == verdict


def test_it_speaks_for_that_version_and_alias_alone() -> None:
    assert objection(SAID, DELAY, "production") == ""
    assert objection(SAID, DELAY, "staging") == "it was decided for the alias 'production'"
    assert objection(SAID, replace(DELAY, number=8), "production") == "its statement speaks of delay@7"
    assert "other bytes: 777777777777, the version has 888888888888" in objection(SAID, replace(DELAY, digest="8" * 64), "production")
    held = decided(DELAY, "production", {**GOOD, "promoted": False}, 1.7e9, FOUND, {})
    assert objection(held, DELAY, "production") == "the verdict was 'refused'"
    assert objection({**SAID, "predicateType": "x"}, DELAY, "production") == "its statement is no decision but 'x'"
    assert objection({"predicateType": PREDICATE_TYPE}, DELAY, "production") == "its statement speaks of nothing"
