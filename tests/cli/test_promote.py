"""`bedplate promote` and `bedplate accept`: decisions that people take need a reason and are recorded."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate


def test_promote_names_what_is_wrong_and_changes_nothing(whole: Path) -> None:
    before = as_json(whole, "lineage", "amount@production")["title"]
    for words, said in (
        (["amount@99", "--reason", "x"], "no such version"),
        (["visits@1", "--reason", "x"], "the project declares no such model"),
        (["amount@1", "--reason", " "], "a decision needs a reason"),
    ):
        done = bedplate(whole, "promote", *words)
        assert done.returncode == 1
        assert said in done.stderr
    assert bedplate(whole, "promote", "amount@1").returncode == 2, "the reason is not optional"
    assert as_json(whole, "lineage", "amount@production")["title"] == before


def test_accept_makes_a_changed_step_count_as_made(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    (hello / "hello.py").write_text((hello / "hello.py").read_text() + "\n# a comment\n")
    assert as_json(hello, "plan")["steps"][0]["verdict"] == "run"
    assert as_json(hello, "accept", "hello", "--reason", "a comment, nothing else")["run"] == "hello-1"
    [step] = as_json(hello, "plan")["steps"]
    assert (step["verdict"], step["why"]) == ("fresh", "accepted as made by hello-1")


def test_accept_of_a_step_that_was_never_made_is_refused(hello: Path) -> None:
    done = bedplate(hello, "accept", "hello", "--reason", "x")
    assert done.returncode == 1
    assert "the step was never made" in done.stderr
