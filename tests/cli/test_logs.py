"""`bedplate logs`: all attempts, one worker, following a run to its end."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, started


def test_follow_goes_on_until_the_run_ends(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=3")
    follower = None
    while follower is None or "no such run" in follower[0]:
        following = started(hello, "logs", "-f", "hello")
        follower = following.communicate(timeout=60)
    process.communicate(timeout=60)
    assert "hello world" in follower[0]
    assert as_json(hello, "runs")[0]["status"] == "succeeded"


def test_lines_are_led_by_attempt_and_worker(whole: Path) -> None:
    assert bedplate(whole, "logs", "fit", "--rank", "1").returncode == 0
    assert all(line.startswith("1/rank-1") for line in bedplate(whole, "logs", "fit", "--rank", "1").stdout.splitlines())


def test_an_unknown_run_names_the_nearest(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert "did you mean 'hello'" in bedplate(hello, "logs", "helo").stderr
