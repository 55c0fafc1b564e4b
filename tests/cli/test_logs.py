"""`bedplate logs`: all attempts, one worker, following a run to its end."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, ended, interrupt, is_running, refused, started, wait_until

HALVES = """
import time


def hello(run, **_):
    print("first half, ", end="", flush=True)
    time.sleep(1)
    print("second half\\nno end", end="", flush=True)
"""

DIES = """
import os
import signal


def hello(run, **_):
    tries = len(list(run.root.glob("try-*"))) + 1
    (run.root / f"try-{tries}").touch()
    print(tries, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_follow_goes_on_until_the_run_ends(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=2")
    wait_until(lambda: is_running(hello))
    code, output = ended(started(hello, "logs", "-f", "hello"))
    assert (code, output) == (0, "1/rank-0: hello world\n")
    assert as_json(hello, "runs")[0]["status"] == "succeeded"
    assert ended(process)[0] == 0


def test_ctrl_c_ends_following_and_leaves_the_run(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60")
    wait_until(lambda: is_running(hello))
    following = started(hello, "logs", "-f", "hello")
    assert following.stdout is not None
    assert following.stdout.readline() == "1/rank-0: hello world\n"
    interrupt(following)
    code, output = ended(following)
    assert code == 130
    assert "Traceback" not in output
    assert is_running(hello)
    bedplate(hello, "cancel", "hello")
    assert ended(process)[0] == 130


def test_a_line_that_is_not_whole_yet_is_followed_as_one(hello: Path) -> None:
    (hello / "hello.py").write_text(HALVES)
    process = started(hello, "run", "hello")
    wait_until(lambda: is_running(hello))
    assert ended(started(hello, "logs", "-f", "hello")) == (0, "1/rank-0: first half, second half\n1/rank-0: no end\n")
    assert ended(process)[0] == 0


def test_attempts_come_in_order_and_lines_are_led_by_theirs(hello: Path) -> None:
    (hello / "bedplate.yaml").write_text((hello / "bedplate.yaml").read_text().replace("max_restarts: 2", "max_restarts: 10"))
    (hello / "hello.py").write_text(DIES)
    assert bedplate(hello, "run", "hello").returncode == 1
    assert bedplate(hello, "logs", "hello").stdout.splitlines() == [f"{token}/rank-0: {token}" for token in range(1, 12)]


def test_one_worker_can_be_picked(hello: Path) -> None:
    (hello / "bedplate.yaml").write_text("project: hello\njobs:\n  hello: {command: echo I am $RANK, resources: {workers: 2}}\n")
    bedplate(hello, "run", "hello")
    assert bedplate(hello, "logs", "hello").stdout == "1/rank-0: I am 0\n1/rank-1: I am 1\n"
    assert as_json(hello, "logs", "hello", "--rank", "1") == [{"file": "1/rank-1", "line": "I am 1"}]
    assert "hello-1 has no such worker (got 2). Fix: its ranks are 0 to 1" in refused(hello, "logs", "hello", "--rank", "2")


def test_json_has_a_file_and_a_line_each_and_silence_is_told(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert as_json(hello, "logs", "hello") == [{"file": "1/rank-0", "line": "hello world"}]
    (hello / "hello.py").write_text("def hello(run, **_):\n    pass\n")
    bedplate(hello, "run", "hello")
    done = bedplate(hello, "logs", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "hello-2 has printed nothing\n")


def test_an_unknown_run_names_the_nearest(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert "no such run (got 'helo'). Fix: did you mean 'hello'" in refused(hello, "logs", "helo")
