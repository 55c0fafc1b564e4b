"""`bedplate run`: targets, parameters, failures in the user's code, Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path

from cli.kit import as_json, bedplate, ended, interrupt, is_running, refused, started, wait_until

APPEND = """
import time


def hello(run):
    stream = run.stream("ticks")
    for tick in range(stream.written, 40):
        stream.append([str(tick).encode()])
        print(tick, flush=True)
        time.sleep(0.05)
"""

DIES_ONCE = """
import os
import signal


def hello(run, **_):
    mark = run.root / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""


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
    assert "no such target (got 'helo'). Fix: did you mean 'hello'?" in refused(hello, "run", "helo")
    assert as_json(hello, "ps", "--all") == []


def test_an_unknown_pool_starts_nothing(hello: Path) -> None:
    assert "no such pool (got 'loc'). Fix: did you mean 'local'?" in refused(hello, "run", "hello", "--on", "loc")
    assert as_json(hello, "ps", "--all") == []


def test_run_refuses_what_only_up_may_move(whole: Path) -> None:
    for target in ("amount", "amounts"):
        assert f"`bedplate up {target}` to promote and serve" in refused(whole, "run", target)


def test_an_experiment_makes_a_version_and_leaves_production(whole: Path, experiment: str) -> None:
    assert experiment != "amount@1"
    assert as_json(whole, "lineage", "amount@production")["title"].startswith("model amount@1")


def test_ctrl_c_stops_a_run_and_names_the_command_that_goes_on(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60", "--set", "name=a b")
    wait_until(lambda: is_running(hello))
    interrupt(process)
    code, output = ended(process)
    assert code == 130, output
    assert "stopping" in output
    assert "next: bedplate run hello --set seconds=60 --set 'name=a b'   goes on from the last checkpoint" in output
    assert as_json(hello, "ps") == []


def test_a_stopped_job_goes_on_where_its_stream_ends(hello: Path) -> None:
    (hello / "hello.py").write_text(APPEND)
    (hello / "bedplate.yaml").write_text("project: hello\njobs:\n  hello: {function: hello.py:hello, outputs: [log://ticks]}\n")
    process = started(hello, "run", "hello")
    wait_until(lambda: is_running(hello) and len(bedplate(hello, "logs", "hello").stdout.splitlines()) > 5)
    interrupt(process)
    assert ended(process)[0] == 130
    first = [int(line.split()[-1]) for line in bedplate(hello, "logs", "hello-1").stdout.splitlines()]
    assert len(first) < 40
    done = as_json(hello, "run", "hello")
    assert done["runs"][0]["outputs"] == ["log://ticks@1"]
    second = [int(line.split()[-1]) for line in bedplate(hello, "logs", "hello-2").stdout.splitlines()]
    assert first + second == list(range(40))
    assert as_json(hello, "lineage", "log://ticks@1")["facts"]["offsets"] == {"0": 40}


def test_a_killed_worker_is_started_again_and_that_is_told(hello: Path) -> None:
    (hello / "hello.py").write_text(DIES_ONCE)
    done = bedplate(hello, "run", "hello")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "running    hello-1  attempt 2: rank 0 was killed by SIGKILL" in done.stderr
    assert [attempt["status"] for attempt in as_json(hello, "runs")[0]["attempts"]] == ["failed", "succeeded"]


def test_what_fails_before_the_first_step_is_not_called_up_to_date(hello: Path) -> None:
    (hello / "hello.py").unlink()
    done = bedplate(hello, "run", "hello")
    assert done.returncode == 1
    assert done.stdout.startswith("nothing was run\n\nfailed in ")
    assert "a file of code is missing (got 'hello.py'). Fix: create it in " in done.stdout


def test_json_is_all_that_is_printed_and_a_failure_is_in_it(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello():\n    pass\n")
    done = bedplate(hello, "run", "hello", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert told["status"] == "failed"
    assert "the function takes no argument, but is called with the run (got 'hello')" in told["message"]
