"""The model card: every recorded fact is in it, nothing else is."""

from __future__ import annotations

import pytest

from bedplate.core.spec import Promote
from bedplate.models.card import TO_WRITE, card
from bedplate.models.gate import decide
from bedplate.models.grades import Grades

DECISION = decide(Promote(when=("rmse <= baseline_rmse * 0.95",)), Grades({"rmse": 15.0, "baseline_rmse": 38.0}), None)
FACTS = {
    "name": "delay",
    "number": 3,
    "run": "train_delay-4",
    "digest": "ab" * 32,
    "seconds": 12.345,
    "data": [{"name": "departures", "version": "departures@2", "rows": 336776, "role": "spine"}, {"name": "weather", "rows": 26115}],
    "rows": 336776,
    "splits": {"train": 235743, "test": 67355},
    "features": ["route_gain", "origin_weather"],
    "params": {"lr": 0.001, "epochs": 2, "shuffle": True},
    "metrics": {"rmse": 15.0123456, "baseline_rmse": 38.0},
    "production": "delay@2",
    "production_metrics": {"rmse": 15.5, "old": 1.0},
    "pinned_set": "train_delay.inputs@3",
    "decision": DECISION.to_json(),
    "code": {"commit": "0a1b2c", "dirty": True, "digest": "cd" * 32},
    "environment": {"python": "3.11.7"},
    "hardware": {"processor": "x86", "cores": 2, "devices": []},
}


def test_a_card_holds_the_facts() -> None:
    text = card(FACTS)
    assert text.startswith("# delay@3\n\n## Origin\n\n- run: train_delay-4\n")
    for line in (
        "- trained for: 12.3 s",
        "- code commit: 0a1b2c",
        "- uncommitted changes: yes",
        "- environment: python: 3.11.7",
        "| departures | departures@2 | 336776 | spine |",
        "| weather |  | 26115 |  |",
        "- rows, train: 235743",
        "- route_gain",
        "| lr | 0.001 |",
        "| metric | this version | production delay@2 |",
        "| rmse | 15.0123 | 15.5 |",
        "| baseline_rmse | 38 |  |",
        "| old |  | 1 |",
        "Evaluated on train_delay.inputs@3.",
        "| rmse <= baseline_rmse * 0.95 | yes | 15 | 36.1 |  |",
        "- cores: 2",
    ):
        assert line in text.splitlines(), line
    assert f"{DECISION.why}." in text.splitlines()


def test_what_only_a_person_knows_is_marked() -> None:
    text = card(FACTS)
    for title in ("## Intended use", "## Limitations", "## Ethical considerations"):
        assert f"{title}\n\n{TO_WRITE}" in text


def test_absent_facts_leave_no_empty_section() -> None:
    text = card({"name": "delay", "number": 1, "run": "r-1", "metrics": {"rmse": 1.0}, "production": None, "production_metrics": None})
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# delay@1",
        "## Origin",
        "## Metrics",
        "## Intended use",
        "## Limitations",
        "## Ethical considerations",
    ]
    assert "| metric | this version |" in text
    assert "None" not in text


def test_a_version_that_was_held_says_why() -> None:
    held = decide(Promote(when=("rmse < 1",)), Grades({"rmse": 2.0}), None)
    assert "not promoted: rmse < 1 does not hold (2 against 1)" in card({**FACTS, "decision": held.to_json()})


def test_facts_cannot_break_the_table_or_become_html() -> None:
    text = card({**FACTS, "params": {"note": "a|b\n| <script>alert(1)</script>"}})
    assert "| note | a\\|b \\| &lt;script>alert(1)&lt;/script> |" in text.splitlines()


def test_a_card_is_of_a_version() -> None:
    with pytest.raises(KeyError):
        card({"name": "delay"})


def test_a_model_from_elsewhere_tells_its_origin_and_a_removed_one_its_end() -> None:
    origin = {"from": "hf://org/small", "revision": "c0ffee", "license": "mit", "left out": ["pytorch_model.bin (a pickle)"]}
    text = card({"name": "base", "number": 1, "origin": origin, "removed": "by ann at noon: not ours"})
    for line in ("- from: hf://org/small", "- revision: c0ffee", "- license: mit", "- left out: pytorch_model.bin (a pickle)"):
        assert line in text
    assert "## Removed\n\nby ann at noon: not ours." in text
    assert "## Removed" not in card({"name": "base", "number": 1})
