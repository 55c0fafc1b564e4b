"""The worker's entry: exit codes, and what a failure says of the user's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt
from bedplate.flow.worker import main
from flow.world import attempt, said

CODE = """
def good(run):
    run.log(rows=3)

def wrong(run):
    return {}["day"]

def refuses(run):
    run.stream("undeclared")
"""


def work(folder: Path, function: str, kind: str = "job") -> tuple[int, Attempt]:
    (folder / "user_worker.py").write_text(CODE)
    spec = {"function": f"user_worker.py:{function}", "params": {}, "outputs": []}
    made = attempt(folder, function, kind, spec)
    write_json(made.path / ATTEMPT_FILE, made.to_json())
    return main(made.path), made


@pytest.mark.usefixtures("clean_imports")
def test_what_works_ends_with_zero(tmp_path: Path) -> None:
    code, made = work(tmp_path, "good")
    assert (code, said(made, "metric"), said(made, "failure")) == (0, [{"step": 0, "values": {"rows": 3.0}}], [])


@pytest.mark.usefixtures("clean_imports")
@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("wrong", "job", "KeyError: 'day' (user_worker.py:6)"),
        ("refuses", "job", "the stream is not among the job's outputs (got 'log://undeclared')"),
        ("absent", "job", "user_worker.py has no function of that name (got 'absent')"),
        ("good", "nonsense", "no such kind of step (got 'nonsense')"),
    ],
)
def test_a_failure_is_the_users_and_says_what_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], function: str, kind: str, message: str
) -> None:
    code, made = work(tmp_path, function, kind)
    assert code == 1
    (failure,) = said(made, "failure")
    assert (failure["failure"], failure["rank"]) == ("user_error", 0)
    assert failure["message"].startswith(message)
    assert message in capsys.readouterr().err, "the run's log has it too"
