"""`bedplate ps`: what lives, with its address or its progress, and what ran."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cli.kit import as_json, bedplate, ended, is_running, processes_of, started, wait_until


def test_with_nothing_up_it_says_how_to_see_more(hello: Path) -> None:
    assert bedplate(hello, "ps").stdout == "nothing is running; `bedplate ps --all` shows what ran\n"


def test_an_endpoint_has_its_address(whole: Path) -> None:
    [run] = as_json(whole, "ps")
    assert (run["step"], run["status"]) == ("amounts", "ready")
    assert f"http://127.0.0.1:{run['port']}" in bedplate(whole, "ps").stdout


def test_all_shows_what_ran_and_how_it_ended(whole: Path) -> None:
    lines = {line.split()[0]: line.split()[1:3] for line in bedplate(whole, "ps", "--all").stdout.splitlines()}
    assert lines["visits-1"] == ["ingest", "succeeded"]
    assert lines["fit-1"] == ["train", "succeeded"]
    assert {run["id"] for run in as_json(whole, "ps", "--all")} == set(lines) - {"run"}


def test_a_run_shows_its_progress_and_when_its_processes_died(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60")
    wait_until(lambda: is_running(hello) and "of 1,200 ticks" in bedplate(hello, "ps").stdout)
    [run] = as_json(hello, "ps")
    assert run["progress"]["total"] == 1200
    process.kill()
    ended(process)
    assert "running (process gone)" not in bedplate(hello, "ps").stdout, "the run outlives its command"
    for module in ("flow.shim", "flow.worker"):
        for pid in processes_of(hello, module):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "running (process gone)" in bedplate(hello, "ps").stdout)
