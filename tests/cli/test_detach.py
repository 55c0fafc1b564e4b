"""`--detach`, `bedplate server`, `cancel` and `down`: what goes on without a terminal, and how it ends."""

from __future__ import annotations

from pathlib import Path

from bedplate.flow.drive import is_hosted
from bedplate.flow.workspace import open_workspace
from cli.kit import as_json, bedplate, processes_of, started, wait_until


def test_a_detached_launch_is_driven_to_its_end_and_down_leaves_nothing(hello: Path) -> None:
    done = bedplate(hello, "run", "hello", "--detach", "--set", "seconds=1")
    assert done.returncode == 0
    assert "goes on in the background" in done.stdout
    wait_until(lambda: [run["status"] for run in as_json(hello, "runs")] == ["succeeded"])
    assert processes_of(hello), "the server stays until it is told"
    assert bedplate(hello, "down").returncode == 0
    wait_until(lambda: not processes_of(hello))


def test_a_second_server_is_refused_and_says_who_is_there(hello: Path) -> None:
    first = started(hello, "server")
    try:
        with open_workspace(hello) as workspace:
            wait_until(lambda: is_hosted(workspace))
        second = bedplate(hello, "server")
        assert second.returncode == 1
        assert "another process hosts the loop" in second.stderr
    finally:
        first.terminate()
        first.communicate(timeout=30)
    assert first.returncode == 0


def test_cancel_ends_a_run_at_once(hello: Path) -> None:
    assert bedplate(hello, "run", "hello", "--detach", "--set", "seconds=60").returncode == 0
    wait_until(lambda: [run["status"] for run in as_json(hello, "ps")] == ["running"])
    assert as_json(hello, "cancel", "hello-1")["status"] == "cancelled"
    assert as_json(hello, "cancel", "hello-1")["status"] == "cancelled", "a second time changes nothing"
    assert bedplate(hello, "down").returncode == 0
    wait_until(lambda: not processes_of(hello))


def test_down_with_nothing_up_says_so(hello: Path) -> None:
    assert bedplate(hello, "down").stdout == "nothing was running\n"
