"""`bedplate lineage`: the whole way back of whatever has a name."""

from __future__ import annotations

import json
from pathlib import Path

from cli.kit import as_json, bedplate, refused, wait_until


def test_an_answer_leads_all_the_way_back(whole: Path) -> None:
    answer = as_json(whole, "ask", "amounts", "id=7")
    wait_until(lambda: bedplate(whole, "lineage", answer["id"]).returncode == 0)  # answers are written a moment after they are given
    tree = bedplate(whole, "lineage", answer["id"]).stdout
    for part in (
        "decision amount@1 -> production",
        "run fit-1",
        "fit.py",
        "shop_sales@1",
        "visits@1",
        "offsets: 0 601",
        "log://visits@1",
        "hardware",
    ):
        assert part in tree, part
    assert json.dumps(as_json(whole, "lineage", answer["id"])).count('run produce-1  (job, succeeded)"') == 1, "each run is told once"


def test_versions_aliases_tables_runs_and_steps_have_one_too(whole: Path) -> None:
    for name, title in (
        ("amount@production", "model amount@1"),
        ("visits", "table visits@1"),
        ("log://sales@1", "stream log://sales@1"),
        ("fit.inputs-1", "run fit.inputs-1"),
        ("produce", "run produce-1"),
    ):
        assert as_json(whole, "lineage", name)["title"].startswith(title), name


def test_a_name_that_nothing_has_is_told_the_nearest(whole: Path) -> None:
    assert "no such version (got 'visits@9'). Fix: visits has versions 1 to 1" in refused(whole, "lineage", "visits@9")
    assert "no version of that name (got 'visit@1'). Fix: did you mean 'visits'" in refused(whole, "lineage", "visit@1")
    said = refused(whole, "lineage", "visit")
    assert "no answer, version or run of that name (got 'visit')" in said
    assert "'visits'" in said
