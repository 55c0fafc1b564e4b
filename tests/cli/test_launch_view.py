"""What a launch shows: bars on a terminal, a line an event elsewhere; Ctrl-C once and twice."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bedplate.cli.launch_view import summary
from bedplate.flow.workspace import open_workspace
from cli.kit import as_json, bedplate, command, ended, interrupt, processes_of, started, wait_until

HEARS = """
import signal
import time


def hello(run, **_):
    signal.signal(signal.SIGINT, lambda *_: print("SIGINT", flush=True))
    print("here", flush=True)
    time.sleep(60)
"""


def on_a_terminal(folder: Path, *words: str, until: bytes) -> tuple[bytes, subprocess.Popen[bytes]]:
    """Start a command on a pseudo-terminal; what it wrote until `until` was seen or it ended."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command(*words), cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    seen, end_s = b"", time.monotonic() + 60
    while until not in seen and time.monotonic() < end_s:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
    os.close(ours)
    return seen, process


def test_a_terminal_gets_bars_with_counts(hello: Path) -> None:
    seen, process = on_a_terminal(hello, "run", "hello", "--set", "seconds=8", until=b"ticks")
    process.kill()
    process.wait(timeout=30)
    assert bedplate(hello, "cancel", "hello").returncode == 0
    assert b"hello-1" in seen
    assert b"/160" in seen
    assert "━".encode() in seen


def test_ctrl_c_on_a_terminal_reaches_the_command_alone(hello: Path) -> None:
    """The terminal signals its whole foreground group: the run must hear of it from the loop, and write its checkpoint first."""
    (hello / "hello.py").write_text(HEARS)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(hello)
        os.execv(sys.executable, command("run", "hello"))
    wait_until(lambda: "here" in (bedplate(hello, "logs", "hello").stdout))
    os.write(terminal, b"\x03")
    seen = b""
    with suppress(OSError):  # the other end is closed when it has ended
        while part := os.read(terminal, 65536):
            seen += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    os.close(terminal)
    assert b"stopping: each run writes a checkpoint first" in seen
    assert "stopped" in seen.decode()
    assert "SIGINT" not in bedplate(hello, "logs", "hello").stdout


def test_elsewhere_there_is_a_line_for_each_event_and_no_bar(hello: Path) -> None:
    done = bedplate(hello, "run", "hello")
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["running", "hello-1"], ["succeeded", "hello-1"]]
    assert "━" not in done.stdout + done.stderr


def test_a_second_ctrl_c_ends_a_run_that_does_not_heed_the_first(hello: Path) -> None:
    (hello / "hello.py").write_text(
        "import signal, time\n\ndef hello(run, name='', seconds=0):\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    print('deaf', flush=True)\n    time.sleep(60)\n"
    )
    process = started(hello, "run", "hello")
    wait_until(lambda: "deaf" in bedplate(hello, "logs", "hello").stdout)
    interrupt(process)
    time.sleep(0.5)
    assert process.poll() is None, "it waits for the run to end"
    interrupt(process)
    code, output = ended(process)
    assert code == 130, output
    assert "ending at once" in output
    assert as_json(hello, "runs")[0]["status"] == "cancelled"
    assert not processes_of(hello)


def test_ctrl_c_writes_a_checkpoint_from_which_the_same_command_goes_on(whole: Path) -> None:
    words = ("run", "fit", "--set", "epochs=40")
    process = started(whole, *words)
    wait_until(lambda: any(run["step"] == "fit" and (run["progress"] or {}).get("done", 0) > 0 for run in as_json(whole, "ps")))
    interrupt(process)
    code, output = ended(process)
    assert code == 130, output
    assert "next: bedplate run fit --set epochs=40   goes on from the last checkpoint" in output
    stopped = as_json(whole, "runs", "fit")[-1]
    told = as_json(whole, "explain", stopped["id"])
    stopped_at = int(told["last checkpoint"].split()[1].rstrip(","))
    assert stopped_at > 0
    [run] = as_json(whole, *words)["runs"]
    assert run["made"]["resume"]["step"] == stopped_at
    assert run["outputs"][0].startswith("amount@")
    assert run["params"]["epochs"] == 40


def test_the_summary_of_a_failure_names_the_next_commands(hello: Path) -> None:
    (hello / "hello.py").write_text("def hello(run, name='', seconds=0):\n    raise ValueError('no')\n")
    bedplate(hello, "run", "hello")
    with open_workspace(hello) as workspace:
        [launch] = workspace.records.launches.values()
        text = summary(workspace, launch, "bedplate run hello")
    assert "failed in" in text
    assert "ValueError: no (hello.py:2)" in text
    assert text.endswith("next: bedplate explain hello-1\n      bedplate logs hello-1")


def test_a_killed_foreground_command_loses_nothing(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=2")
    wait_until(lambda: bool(as_json(hello, "ps")))
    process.kill()
    ended(process)
    done = bedplate(hello, "run", "hello", "--set", "seconds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [run["id"] for run in as_json(hello, "runs")] == ["hello-1"], "the run was adopted, not started again"
