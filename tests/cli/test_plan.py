"""`bedplate plan`: verdicts and reasons, and mistakes in the project file that are told where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate

MISTAKES = [
    ("  hello: {functoin: hello.py:hello}", "jobs.hello.functoin: unknown field (got 'functoin'). Fix: did you mean 'function'"),
    ("  hello: {function: hello.py}", "jobs.hello.function: the value has the wrong form (got 'hello.py')"),
    ("  hello: {function: hello.py:hello, checkpoint_every: soon}", "jobs.hello.checkpoint_every: not a duration (got 'soon')"),
    ("  hello: {function: missing.py:hello}", "a file of code is missing (got 'missing.py')"),
    ("  hello: {function: hello.py:hello, inputs: {spine: x, label: y.z}}", "jobs.hello.inputs.spine: no such dataset (got 'x')"),
]


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_a_mistake_is_told_with_its_place_its_value_and_the_fix(hello: Path, line: str, said: str) -> None:
    (hello / "bedplate.yaml").write_text(f"project: hello\njobs:\n{line}\n")
    done = bedplate(hello, "plan")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Fix:" in done.stderr
    if "file of code" not in said:
        assert "bedplate.yaml:3: " in done.stderr


def test_a_plan_starts_nothing(hello: Path) -> None:
    assert "run      local" in bedplate(hello, "plan").stdout
    assert as_json(hello, "ps", "--all") == []


def test_after_a_run_the_plan_says_by_whom_and_after_a_change_why(hello: Path) -> None:
    assert bedplate(hello, "run", "hello").returncode == 0
    [step] = as_json(hello, "plan")["steps"]
    assert (step["verdict"], step["made_by"]) == ("fresh", "hello-1")
    (hello / "hello.py").write_text((hello / "hello.py").read_text() + "\n")
    assert "its code changed since hello-1" in bedplate(hello, "plan").stdout
    assert "its declaration changed" in bedplate(hello, "plan", "--set", "name=you").stdout
    assert "forced" in bedplate(hello, "plan", "--force", "hello").stdout


def test_an_unknown_target_or_parameter_names_the_nearest(hello: Path) -> None:
    assert "did you mean 'hello'" in bedplate(hello, "plan", "helo").stderr
    assert "did you mean 'hello.name'" in bedplate(hello, "plan", "--set", "hello.nam=x").stderr
