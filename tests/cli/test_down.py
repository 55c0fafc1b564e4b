"""`bedplate down`: what lives is stopped, what was made stays."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, is_running, processes_of, wait_until


def test_with_nothing_up_it_says_so(hello: Path) -> None:
    assert bedplate(hello, "down").stdout == "nothing was running\n"
    assert as_json(hello, "down") == {"stopped": []}


def test_it_stops_runs_and_the_server_and_keeps_what_was_made(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert bedplate(hello, "run", "hello", "--detach", "--set", "seconds=60").returncode == 0
    wait_until(lambda: is_running(hello, "hello-2"))
    assert bedplate(hello, "down").stdout == "stopped hello-2\n"
    wait_until(lambda: not processes_of(hello))
    assert [run["status"] for run in as_json(hello, "runs")] == ["succeeded", "stopped"]
