"""`bedplate data drift`: a table, a page, JSON, and a limit for pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, refused


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text("project: shop\ndatasets:\n  sales: {source: sales.csv}\n  more: {source: sales.csv}\n")
    for shift in (0, 50):
        rows = "".join(f"{n + shift},{'abc'[n % 3]}\n" for n in range(100))
        (tmp_path / "sales.csv").write_text("amount,shop\n" + rows)
        assert bedplate(tmp_path, "run", "sales").returncode == 0
    return tmp_path


def test_two_versions_are_compared(shop: Path) -> None:
    done = bedplate(shop, "data", "drift", "sales@1", "--html", "drift.html")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (0, "sales@1 (100 rows) -> sales@2 (100 rows)")
    assert [line.split()[0] for line in lines[2:5]] == ["column", "amount", "shop"]
    assert "moved    median 49.5 -> 99.5" in lines[3]
    assert (shop / "drift.html").read_text().startswith("<!doctype html>")
    told = as_json(shop, "data", "drift", "sales@1", "sales@2")
    assert [(it["column"], it["verdict"], it["ks"]) for it in told["columns"]] == [
        ("amount", "moved", 0.5),
        ("shop", "stable", 0.0),
    ]
    assert sum(each["after"] for each in told["columns"][0]["bins"]) == pytest.approx(1)

    assert bedplate(shop, "data", "drift", "sales@1", "sales@2", "--limit", "0.25").returncode == 1
    assert bedplate(shop, "data", "drift", "sales@1", "sales@1", "--limit", "0").returncode == 0

    assert "no such table (got 'sale')" in refused(shop, "data", "drift", "sale@1")
