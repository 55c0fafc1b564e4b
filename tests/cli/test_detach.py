"""`--detach`: a launch goes on without a terminal."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, is_running, processes_of, wait_until


def test_it_returns_at_once_and_the_server_drives_the_launch_to_its_end(hello: Path) -> None:
    done = bedplate(hello, "run", "hello", "--detach", "--set", "seconds=1")
    assert done.returncode == 0
    assert "goes on in the background" in done.stdout
    assert as_json(hello, "runs") == [] or as_json(hello, "runs")[0]["status"] != "succeeded"
    wait_until(lambda: [run["status"] for run in as_json(hello, "runs")] == ["succeeded"])
    assert processes_of(hello), "the server stays until it is told"
    assert bedplate(hello, "down").returncode == 0
    wait_until(lambda: not processes_of(hello))


def test_a_second_launch_goes_to_the_server_that_is_there(hello: Path) -> None:
    assert as_json(hello, "run", "hello", "--detach", "--set", "seconds=60")["launch"].startswith("run-")
    wait_until(lambda: is_running(hello))
    assert as_json(hello, "up", "hello", "--detach")["launch"].startswith("up-")
    wait_until(lambda: "hello-2" in bedplate(hello, "ps", "--all").stdout)
    assert len(processes_of(hello, "cli.main")) == 1
    assert bedplate(hello, "down").returncode == 0
    wait_until(lambda: not processes_of(hello))


def test_a_target_that_does_not_exist_starts_no_server(hello: Path) -> None:
    assert bedplate(hello, "run", "helo", "--detach").returncode == 1
    assert not processes_of(hello)
