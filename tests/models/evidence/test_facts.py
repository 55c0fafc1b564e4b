"""What the pages share: digests by algorithm, numbers and tables."""

from __future__ import annotations

from dataclasses import replace

from bedplate.models.evidence.facts import Facts, digest_of, number, table
from models.evidence.sample import FILE, ROWS


def test_a_single_file_has_another_digest_than_all_else() -> None:
    assert digest_of(FILE) == {"blake3": FILE.digest}
    assert digest_of(ROWS) == {"sha256": ROWS.digest}


def test_the_run_is_the_one_that_made_the_version(facts: Facts) -> None:
    assert facts.run is not None
    assert facts.run.id == "fit-2"
    assert replace(facts, runs=()).run is None


def test_numbers_are_short_and_all_else_as_it_is() -> None:
    assert (number(0.123456789), number(5), number("x"), number(None)) == ("0.123457", "5", "x", "None")


def test_a_cell_cannot_end_its_row() -> None:
    assert table(("a|b",), [("c\nd | e",)]).splitlines() == ["| a\\|b |", "| --- |", "| c d \\| e |"]
