"""`bedplate features skew`: what was served is what training would have had; what cannot be compared is said."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused, wait_until


def test_what_was_served_is_as_training_would_have_it(whole: Path) -> None:
    assert bedplate(whole, "ask", "amounts", "id=510").returncode == 0
    wait_until(lambda: bedplate(whole, "features", "skew", "amounts").returncode == 0)
    found = as_json(whole, "features", "skew", "amounts")
    assert found["equal"] is True and found["answers"] >= 1 and found["left_out"] == 0
    assert all(each["compared"] == each["equal"] == found["answers"] for each in found["features"].values())
    told = bedplate(whole, "features", "skew", "amounts", "--last", "1").stdout
    assert "1 answers of amounts: as training would have it" in told


def test_an_endpoint_that_is_not_there(whole: Path) -> None:
    assert "did you mean 'amounts'" in refused(whole, "features", "skew", "amount")
