"""`bedplate plan`: verdicts and reasons, and mistakes in the project file that are told where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import as_json, bedplate

MISTAKES = [
    ("  hello: {functoin: hello.py:hello}", "jobs.hello.functoin: unknown field (got 'functoin'). Fix: did you mean 'function'"),
    ("  hello: {function: hello.py}", "jobs.hello.function: the value has the wrong form (got 'hello.py')"),
    ("  hello: {function: hello.py:hello, checkpoint: soon}", "jobs.hello.checkpoint: not a duration (got 'soon')"),
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


TRAINING = ("plan", "--model", "llama3-70b", "--hardware", "64 x H100-SXM", "--seq", "8192", "--batch", "512")


def test_a_model_on_hardware_is_planned_without_a_project(tmp_path: Path) -> None:
    done = bedplate(tmp_path, *TRAINING)
    assert done.returncode == 0
    assert "llama3-70b, 70.55 billion parameters, on 64 x H100-SXM" in done.stdout
    assert "why the others lose:" in done.stdout
    found = as_json(tmp_path, *TRAINING)
    assert found["best"][0]["memory"]["total_bytes"] <= found["memory_limit_bytes"]
    assert list(tmp_path.iterdir()) == []


def test_a_model_needs_hardware(tmp_path: Path) -> None:
    done = bedplate(tmp_path, "plan", "--model", "llama3-8b")
    assert done.returncode == 2
    assert "--model and --hardware go together" in done.stderr


def test_a_job_with_an_architecture_and_mesh_auto_shows_its_mesh(hello: Path) -> None:
    shape = "{layers: 4, hidden: 256, heads: 4, vocab: 1000, sequence: 128, batch: 32}"
    job = f"  hello: {{function: hello.py:hello, mesh: auto, resources: {{workers: 2}}, architecture: {shape}}}\n"
    (hello / "bedplate.yaml").write_text(f"project: hello\njobs:\n{job}")
    assert "hello: mesh data 2; " in bedplate(hello, "plan").stdout
    [step] = as_json(hello, "plan")["steps"]
    assert step["training"]["mesh"] == {"data": 2}
    assert step["training"]["step_s"] > 0
