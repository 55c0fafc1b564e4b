"""The processes of an attempt: all of them are found, and nobody else's is ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bedplate.cluster.tree import MARK, Process, kill, members, send
from bedplate.core.attempt import own_identity, start_ticks
from cluster.rig import runs, wait_until

WAIT = "import time; time.sleep(600)"


@contextmanager
def started(script: str = WAIT, environment: Mapping[str, str] | None = None, log: Path | None = None) -> Iterator[Process]:
    """A process of this one's, killed at the end."""
    given = {"PATH": os.defpath, **(environment or {})}
    with (
        (log or Path(os.devnull)).open("ab") as output,
        subprocess.Popen([sys.executable, "-c", script], env=given, stdout=output) as child,
    ):
        try:
            yield Process(child.pid, start_ticks(child.pid) or 0)
        finally:
            child.kill()


def marked(folder: Path) -> dict[str, str]:
    return {MARK: str(folder)}


def settled(process: Process, folder: Path) -> bool:
    """Whether it is found; just after fork it still shows its parent's environment."""
    return process in members(str(folder))


def test_a_process_belongs_by_its_environment(tmp_path: Path) -> None:
    with started(environment=marked(tmp_path / "1")) as mine, started(environment=marked(tmp_path / "11")) as other:
        wait_until(lambda: settled(mine, tmp_path / "1") and settled(other, tmp_path / "11"))
        assert members(str(tmp_path / "1")) == {mine}


def test_a_process_belongs_by_where_it_prints(tmp_path: Path) -> None:
    """Also when it has overwritten its environment; and who reads a log belongs to nobody."""
    (tmp_path / "1" / "logs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "1")
    log = tmp_path / "1" / "logs" / "rank-0.log"
    with started(log=log) as mine, started(f"file = open({str(log)!r}); {WAIT}"), started(log=tmp_path / "1" / "other"):
        assert members(str(tmp_path / "1")) == {mine}
        assert members(str(tmp_path / "link")) == {mine}


def test_descendants_belong_as_well(tmp_path: Path) -> None:
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAIT!r}], env={{}}, start_new_session=True).wait()"
    with started(script, marked(tmp_path)) as parent:
        wait_until(lambda: len(members(str(tmp_path))) == 2)
        found = members(str(tmp_path))
        [child] = found - {parent}
        assert members(str(tmp_path / "another"), [parent.pid]) == {child}, "a root is left out itself"
        assert members(str(tmp_path), [parent.pid]) == {child}
        assert kill(found) == found
        wait_until(lambda: not runs(child.pid))


def test_the_caller_and_the_dead_are_left_out(tmp_path: Path) -> None:
    script = f"from bedplate.cluster.tree import members; print(members({str(tmp_path)!r}))"
    asked = subprocess.run([sys.executable, "-c", script], env=marked(tmp_path), capture_output=True, text=True, timeout=60)
    assert asked.stdout == "set()\n"
    with subprocess.Popen([sys.executable, "-c", "pass"], env=marked(tmp_path)) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert members(str(tmp_path)) == set()


def test_a_signal_reaches_that_process_and_no_later_one() -> None:
    with started() as process:
        assert not send(Process(process.pid, process.start_ticks + 1), signal.SIGKILL)
        assert kill([Process(process.pid, process.start_ticks - 1)]) == set()
        assert runs(process.pid)
        assert send(process, signal.SIGKILL)
        wait_until(lambda: not runs(process.pid))
        assert not send(process, signal.SIGKILL)
    assert not send(process, signal.SIGKILL)


def test_a_number_that_no_process_has() -> None:
    assert not send(Process(2**22 + 1, 1), signal.SIGKILL)
    identity = own_identity(0)
    assert send(Process(identity.pid, identity.start_ticks), 0)
