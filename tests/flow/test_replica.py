"""A replica's process: it ends with the pipe from its router, and says in one line why it cannot serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE
from bedplate.core.errors import NotFound
from bedplate.core.loading import Entry
from bedplate.flow import replica
from flow.world import attempt

WAITS = """
import os, signal, sys, threading
from bedplate.flow import replica
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), os._exit(0)))
threading.Thread(target=replica._watch, args=(sys.stdin.fileno(),), daemon=True).start()
print("on", flush=True)
threading.Event().wait(60)
"""


def test_it_is_told_to_end_when_its_router_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.readline() == b"told\n"
        assert process.wait(30) == 0


def refuses(_attempt: object, number: int) -> int:
    raise NotFound("no such model", value=number, fix="train it")


def test_an_error_is_one_line_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = attempt(tmp_path, "prices", "endpoint", {})
    write_json(made.path / ATTEMPT_FILE, made.to_json())
    monkeypatch.setattr(replica, "_WORK", {"replica": Entry("flow.test_replica:refuses", "for this test")})
    monkeypatch.setattr(replica, "_watch", lambda _descriptor: None)
    with (tmp_path / "in").open("w+") as given:
        monkeypatch.setattr(sys, "stdin", given)
        assert replica.main(made.path, 4) == 1
    assert capsys.readouterr().err == "no such model (got 4). Fix: train it\n"
