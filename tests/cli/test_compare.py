"""`bedplate compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path

from bedplate.cli.compare import BARS, sparkline
from cli.kit import as_json, bedplate, refused


def test_a_star_where_they_differ_and_one_page(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    bedplate(hello, "run", "hello", "--set", "name=you")
    text = bedplate(hello, "compare", "hello-1", "hello-2", "--html", "compared.html").stdout.splitlines()
    assert text[0].split() == ["hello-1", "hello-2"]
    rows = {line.split()[0]: line.split()[1:] for line in text[1:]}
    assert rows["*name"] == ["params", "world", "you"]
    assert rows["seconds"] == ["params", "0", "0"]
    assert rows["*letters"] == ["metrics", "5", "3"]
    assert text[-1] == "wrote compared.html"
    page = (hello / "compared.html").read_text()
    assert "<svg" in page
    assert "hello-2" in page
    told = as_json(hello, "compare", "hello-1", "hello-2")
    assert {line["name"]: line["differs"] for line in told["lines"]} == {"name": True, "seconds": False, "letters": True}
    assert "two runs or more" in refused(hello, "compare", "hello-1")
    assert "no such run (got 'hello-9')" in refused(hello, "compare", "hello-1", "hello-9")


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BARS
    assert sparkline([1.0, float("nan"), 2.0]) == "▁ █"
    assert sparkline([3.0, 3.0]) == "▄▄"
    assert (sparkline([]), sparkline([float("inf")])) == ("", "")
    assert len(sparkline(list(range(1000)))) <= 24
