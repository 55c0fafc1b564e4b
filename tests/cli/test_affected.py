"""`bedplate affected`: who asks what saw their rows gets an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused


def declare(folder: Path, column: str) -> None:
    path = folder / "bedplate.yaml"
    path.write_text(path.read_text().replace("    key: [id]\n", f"    key: [id]\n    subject: {column}\n"))


def test_from_the_rows_to_production(still: Path) -> None:
    declare(still, "shop")
    said = as_json(still, "affected", "--subject", "s1")
    assert {held["version"]: held["rows"] for held in said["tables"]} == {"visits@1": 120, "sales@1": 120}
    assert said["made"]["fit.inputs@1"] == "training_set"
    assert said["made"]["shop_sales@1"] == "view"
    assert "amount@1" in said["models"]
    assert said["serving"]["amount@1"] == ["production"]
    assert "Rows about the person s1: 120 in sales, 120 in visits." in said["letter"]


def test_as_text_with_progress_beside_it(still: Path) -> None:
    done = bedplate(still, "affected", "--where", "shop=s1")
    assert done.returncode == 0
    assert "looking at visits@1" in done.stderr
    for line in ("visits@1  shop    120", "Models made of tables with these rows: amount@1 (production)"):
        assert line in done.stdout, done.stdout


def test_nobody_is_found_nowhere(still: Path) -> None:
    said = as_json(still, "affected", "--where", "id=99999")
    assert (said["tables"], said["made"], said["answers"]) == ([], {}, [])
    assert said["letter"] == "We looked through sales, visits and hold no row about id = 99999."
    assert as_json(still, "affected", "--where", "id=no-number")["tables"] == [], "a value that the column cannot hold is in no row"


def test_what_must_be_said(still: Path) -> None:
    assert "no dataset says which column names a person" in refused(still, "affected", "--subject", "s1")
    assert "no table has such a column" in refused(still, "affected", "--where", "nam=s1")
    for words in ((), ("--subject", "a", "--where", "b=c"), ("--where", "shop")):
        done = bedplate(still, "affected", *words)
        assert done.returncode == 2, words


@pytest.mark.parametrize("column", ["id", "size"])
def test_numbers_name_persons_too(still: Path, column: str) -> None:
    said = as_json(still, "affected", "--where", f"{column}=3")
    assert any(held["version"] == "visits@1" and held["rows"] > 0 for held in said["tables"])
