"""The outline of Annex IV: all nine sections with their points, each filled from the facts or left to a person."""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.models.evidence.annex import annex
from bedplate.models.evidence.facts import PERSON, Facts


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def points(text: str) -> dict[str, str]:
    parts = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def test_there_are_the_nine_sections_in_order(facts: Facts) -> None:
    assert [title.split(".")[0] for title in sections(annex(facts))] == [str(number) for number in range(1, 10)]


def test_sections_one_and_two_have_the_points_of_the_annex(facts: Facts) -> None:
    found = list(sections(annex(facts)).values())
    assert [title[:3] for title in points(found[0])] == [f"({letter})" for letter in "abcdefgh"]
    assert [title[:3] for title in points(found[1])] == [f"({letter})" for letter in "abcdefgh"]


def test_every_point_is_filled_or_marked(facts: Facts) -> None:
    for bare in (
        facts,
        replace(facts, runs=(), evaluation={}, sheets=(), spent=(), decisions=(), endpoints={}, signature={}, tags={}, dependencies={}),
    ):
        for title, section in sections(annex(bare)).items():
            assert points(section), title
            for point, text in points(section).items():
                assert text, f"{title}: {point} is empty"


def test_what_no_ledger_knows_is_left_to_a_person(facts: Facts) -> None:
    found = sections(annex(facts))
    for title, section in found.items():
        if title[0] in "578":
            assert all(text == PERSON for text in points(section).values()), title
    oversight = points(found["2. Elements of the system and how it was developed"])["(e) Human oversight measures (Article 14)"]
    assert oversight == PERSON


def test_what_the_ledger_knows_is_there(facts: Facts) -> None:
    text = annex(facts)
    for known in (
        "- version: price@2",
        "torch 2.9.0+cpu",
        "- cores: 8",
        "| fit-2 | train |",
        "- parameter lr: 0.1",
        "| rows@3 | 100 | data/rows.csv | CC-BY-4.0 | EU |",
        "- rows, train: 60",
        "| rmse | 1.5 |",
        "| size | float64 |",
        "prices: HTTP endpoint of `price@production`",
        "| production | price@2 | gate | promoted: rmse <= 5 |",
        "- stage: pilot",
        "Decisions that were signed: 0 of 1.",
    ):
        assert known in text, known


def test_the_rules_of_the_gate_are_the_metrics_to_justify(facts: Facts) -> None:
    evaluation = {**facts.evaluation, "rules": ["rmse <= 5"]}
    section = sections(annex(replace(facts, evaluation=evaluation)))["4. Appropriateness of the performance metrics"]
    assert "- `rmse <= 5`" in section
    assert PERSON in section
