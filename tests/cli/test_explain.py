"""`bedplate explain`: why a run or step is as it is, and what would help."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused


def test_a_gate_tells_its_decision_and_the_metrics(whole: Path) -> None:
    told = as_json(whole, "explain", "amount")
    assert told["now"].startswith("fresh")
    assert told["decision"].startswith("promoted")
    assert set(told["metrics"]) == {"rmse", "mean_rmse"}


def test_a_step_that_was_never_run_tells_what_it_waits_for(hello: Path) -> None:
    lines = bedplate(hello, "explain", "hello").stdout.splitlines()
    assert lines[0].split() == ["now", "run:", "never", "made"]
    assert lines[1].startswith("where")


def test_a_failed_run_tells_the_place_what_would_help_and_where_to_look(hello: Path) -> None:
    (hello / "hello.py").write_text("import json\n\ndef hello(run, **_):\n    json.loads('{')\n")
    bedplate(hello, "run", "hello")
    told = as_json(hello, "explain", "hello-1")
    assert "(hello.py:4)" in told["message"], "the user's own line, not that of the library which raised"
    assert "correct the code" in told["what would help"]
    assert told["logs"] == "bedplate logs hello-1"


def test_a_succeeded_run_says_nothing_of_going_on(whole: Path) -> None:
    assert "last checkpoint" not in as_json(whole, "explain", "fit-1")


def test_an_unknown_name_names_the_nearest(hello: Path) -> None:
    assert "no such run or step (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "explain", "helo")
