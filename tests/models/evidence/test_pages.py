"""The pages that people read: what is known stands there, what is not is said, and nothing personal is shown."""

from __future__ import annotations

from dataclasses import replace

from bedplate.core.record import AliasMove
from bedplate.models.evidence.facts import PERSON, Column, Facts, Sheet
from bedplate.models.evidence.pages import cost_page, evaluation_page, index, readme, sheet_page
from models.evidence.sample import ROWS


def test_a_data_sheet_says_what_is_known_and_leaves_the_rest_to_a_person(facts: Facts) -> None:
    page = sheet_page(facts.sheets[0])
    for line in (
        "# Data sheet: rows",
        f"- version: rows@3, digest {ROWS.digest}",
        "- rows: 100",
        "- rows kept apart as invalid: 2",
        "- source: data/rows.csv",
        "- license: CC-BY-4.0",
        "- residency: EU",
        "- persons: named by the column `shop|x`",
        "| id | int64 | 0 | 1 | 100 | 100 |",
        "| shop\\|x | string | 4 | 2 characters | 9 characters | 12 |",
    ):
        assert line in page.splitlines(), line
    assert page.count(PERSON) == 4


def test_what_was_not_declared_is_said() -> None:
    page = sheet_page(Sheet(ROWS, (Column("x", "bool", 0),), "rows.csv"))
    assert "- license: not declared" in page
    assert "- residency: not declared" in page
    assert "- persons: not declared (`subject:`)" in page
    assert "- key" not in page
    assert "| x | bool | 0 |  |  |  |" in page


def test_a_table_that_is_gone_says_so() -> None:
    assert "The table is not here any more" in sheet_page(Sheet(ROWS, (), "rows.csv", columns_unread="The table is not here any more."))


def test_the_evaluation_stands_beside_production_and_by_slice(facts: Facts) -> None:
    evaluation = {
        **facts.evaluation,
        "production": "price@1",
        "production_metrics": {"rmse": 2.5, "mae": 1.0},
        "slices": {"shop": {"s1": {"rmse": 3.0}}},
        "drift": {"size": {"psi": 0.01}, "shop": [{"psi": 0.5}, 1]},
    }
    page = evaluation_page(replace(facts, evaluation=evaluation))
    for line in ("| rmse | 1.5 | 2.5 |", "| mae |  | 1 |", "| shop=s1 | rmse | 3 |", "  - psi: 0.01", "  - psi 0.5"):
        assert line in page.splitlines(), page
    assert "beside production (price@1)" in page
    assert "gate | by rule | promoted: rmse <= 5 |" in page


def test_a_decision_by_hand_is_told_apart(facts: Facts) -> None:
    move = AliasMove(2, 1.7e9, {"by": "ann", "override": True, "why": "the gate | is strict"})
    assert "| ann | by hand | the gate \\| is strict |" in evaluation_page(replace(facts, decisions=(("canary", move),)))


def test_without_an_evaluation_a_person_is_asked(facts: Facts) -> None:
    page = evaluation_page(replace(facts, evaluation={}, decisions=()))
    assert f"No evaluation of this version is recorded. {PERSON}" in page
    assert "No alias points or pointed to it." in page


def test_costs_are_marked_as_estimates_and_add_up(facts: Facts) -> None:
    page = cost_page(facts.spent)
    assert "| fit-2 | fit | 1 h 0 min | 8 cores | 8 | 0.08 | unknown |" in page
    assert "| all |  | 1 h 1 min |  | 8.0167 | 0.0802 | 0.01 |" in page
    assert "energy, kWh (estimate)" in page
    assert page.endswith("- cores at 10 W\n- as said\n")
    assert "| all |  | 0.0 s |  | 0 | unknown | unknown |" in cost_page([])


def test_the_readme_lists_what_is_there_and_how_to_check_it(facts: Facts) -> None:
    names = ["bom.cdx.json", "keys/a.pem", "keys/b.pem", "model.sig"]
    page = readme(facts, names)
    assert "# Evidence of price@2" in page
    assert page.count("| `keys/` |") == 1
    assert "`model/` |" not in page, "what is not there is not listed"
    assert "model_signing verify key" in page
    assert "sha256sum --check" in page


def test_the_page_for_a_browser_loads_nothing_and_escapes(facts: Facts) -> None:
    page = index(replace(facts, project="<script>"), ["data/a&b.md"])
    assert '<a href="data/a&amp;b.md">' in page
    assert "<script>" not in page
    assert "http" not in page.replace("http-equiv", "")
