"""`bedplate accept`: a changed step counts as made, for a reason that is recorded."""

from __future__ import annotations

from pathlib import Path

from bedplate.flow.workspace import open_workspace
from cli.kit import as_json, bedplate, refused


def test_a_changed_step_counts_as_made_until_it_changes_again(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    code = (hello / "hello.py").read_text()
    (hello / "hello.py").write_text(f"{code}\n# a comment\n")
    assert as_json(hello, "plan")["steps"][0]["verdict"] == "run"
    assert bedplate(hello, "accept", "hello", "--reason", "a comment, nothing else").stdout == "hello counts as made by hello-1\n"
    [step] = as_json(hello, "plan")["steps"]
    assert (step["verdict"], step["why"]) == ("fresh", "accepted as made by hello-1")
    (hello / "hello.py").write_text(f"{code}\n# another comment\n")
    assert as_json(hello, "plan")["steps"][0]["verdict"] == "run"


def test_the_reason_is_in_the_ledger(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert as_json(hello, "accept", "hello", "--reason", "it is the same") == {"step": "hello", "run": "hello-1"}
    with open_workspace(hello) as workspace:
        [event] = [event for event in workspace.ledger.read() if event.kind == "step.accepted"]
    assert event.payload["reason"] == "it is the same"


def test_what_cannot_be_accepted_is_refused(hello: Path) -> None:
    assert "the step was never made (got 'hello'). Fix: bedplate run hello" in refused(hello, "accept", "hello", "--reason", "x")
    assert "no such target (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "accept", "helo", "--reason", "x")
    assert "a decision needs a reason (got ' ')" in refused(hello, "accept", "hello", "--reason", " ")
    done = bedplate(hello, "accept", "hello")
    assert done.returncode == 2
    assert done.stderr == "error: Missing option '--reason'; see `bedplate accept --help`\n"
