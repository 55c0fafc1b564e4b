"""`bedplate run`: targets, parameters, failures in the user's code, Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, interrupt, started, wait_until


def test_again_runs_nothing_and_a_parameter_runs_anew(hello: Path) -> None:
    assert "succeeded" in bedplate(hello, "run", "hello").stdout
    assert "nothing was run" in bedplate(hello, "run", "hello").stdout
    assert "hello-2" in bedplate(hello, "run", "hello", "--set", "name=you").stdout
    assert "nothing was run" in bedplate(hello, "run", "hello").stdout, "the first parameters are still made"
    assert "hello-3" in bedplate(hello, "run", "hello", "--force", "hello").stdout


def test_an_error_in_the_users_code_is_told_with_its_place(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello(run, name='', seconds=0):\n    return 1 / 0\n")
    done = bedplate(hello, "run", "hello")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero (hello.py:2)" in done.stdout
    assert "next: bedplate explain hello-1" in done.stdout
    assert "Traceback" in bedplate(hello, "logs", "hello-1").stdout
    told = as_json(hello, "explain", "hello-1")
    assert "correct the code" in told["what would help"]


def test_bad_python_is_told_before_anything_starts(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello(:\n")
    done = bedplate(hello, "run", "hello")
    assert done.returncode == 1
    assert "hello.py:1: not valid Python" in done.stdout
    assert as_json(hello, "ps", "--all") == []


def test_a_parameter_that_the_function_does_not_take_names_the_nearest(hello: Path) -> None:
    (hello / "bedplate.yaml").write_text("project: hello\njobs:\n  hello: {function: hello.py:hello, params: {nam: x}}\n")
    assert "the function takes no such parameter (got 'nam'). Fix: did you mean 'name'" in bedplate(hello, "run", "hello").stdout


def test_an_unknown_target_starts_nothing(hello: Path) -> None:
    done = bedplate(hello, "run", "helo")
    assert done.returncode == 1
    assert "did you mean 'hello'" in done.stderr


def test_run_refuses_what_only_up_may_move(whole: Path) -> None:
    for target in ("amount", "amounts"):
        done = bedplate(whole, "run", target)
        assert done.returncode == 1
        assert f"bedplate up {target}" in done.stderr


def test_an_experiment_makes_a_version_and_leaves_production(whole: Path) -> None:
    before = as_json(whole, "lineage", "amount@production")["title"]
    done = as_json(whole, "run", "fit", "--set", "epochs=1")
    assert done["runs"][0]["outputs"] == ["amount@2"]
    assert as_json(whole, "lineage", "amount@production")["title"] == before


def test_ctrl_c_stops_a_run_and_the_launch(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60")
    wait_until(lambda: bool(as_json(hello, "ps")) and as_json(hello, "ps")[0]["status"] == "running")
    interrupt(process)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "stopping" in output
    assert "next: bedplate run hello" in output
    assert as_json(hello, "ps") == []
