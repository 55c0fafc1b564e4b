"""What a decision's statement holds, and for which version and alias it speaks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.core.digest import digest
from bedplate.core.versions import Version
from bedplate.models.decision import EVALUATED, PREDICATE_TYPE, decided, objection, verdict_of

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
    [
        ({"promoted": True}, "promoted"),
        ({"promoted": False}, "refused"),
        ({"promoted": False, "pending": ["ann"]}, "pending"),
        ({"promoted": False, "withdrawn": True}, "withdrawn"),
    ],
)
def test_the_verdicts(decision: dict[str, object], verdict: str) -> None:
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


@pytest.mark.parametrize("name", EVALUATED)
def test_what_was_not_evaluated_is_not_in_the_statement(name: str) -> None:
    without = decided(DELAY, "production", GOOD, 1.7e9, {}, {})["predicate"]
    assert name not in without
    assert decided(DELAY, "production", GOOD, 1.7e9, {name: {"x": 1.0}}, {})["predicate"][name] == {"x": 1.0}


def test_a_decision_by_hand_says_by_whom_and_that_it_overrides() -> None:
    by_hand = {"by": "ann", "promoted": True, "override": True, "why": "the canary is fine", "approvals": [{"by": "bob"}]}
    told = decided(DELAY, "production", by_hand, 0.0, {}, {"ledger": {"head": "h"}})["predicate"]
    assert (told["decidedBy"], told["override"], told["why"], told["verdict"]) == ("ann", True, "the canary is fine", "promoted")
    assert (told["rules"]["when"], told["checks"], told["approvals"]) == ([], [], [{"by": "bob"}])
    assert told["decidedAt"] == "1970-01-01T00:00:00.000Z"
    assert told["ledger"] == {"head": "h"}


def test_the_digest_of_the_rules_is_of_their_text_and_order() -> None:
    told = [
        decided(DELAY, "p", GOOD, 0.0, {"rules": rules}, {})["predicate"]["rules"]["sha256"]
        for rules in (["a", "b"], ["b", "a"], ["a", "b"])
    ]
    assert told[0] == told[2] != told[1]


@pytest.mark.parametrize("pending", [2, ["ann"], 0, [], None])
def test_a_decision_that_waits_speaks_for_no_alias(pending: object) -> None:
    said = decided(DELAY, "production", {"by": "gate", "promoted": False, "pending": pending}, 0.0, {}, {})
    assert objection(said, DELAY, "production") == f"the verdict was {'pending' if pending else 'refused'!r}"


def test_one_of_several_subjects_is_enough_and_each_has_its_own_digest() -> None:
    both = {**SAID, "subject": [{"name": "other@1", "digest": {"sha256": "1" * 64}}, *SAID["subject"]]}
    assert objection(both, DELAY, "production") == ""
    swapped = {
        **SAID,
        "subject": [{"name": "delay@7", "digest": {"sha256": "1" * 64}}, {"name": "other@1", "digest": {"sha256": "7" * 64}}],
    }
    assert "it was decided on other bytes" in objection(swapped, DELAY, "production")
    assert "other bytes" in objection({**SAID, "subject": [{"name": "delay@7"}]}, DELAY, "production")
