"""The shim: one journal tells how an attempt went, and nothing of an attempt outlives its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bedplate.cluster.shim import claimed, fenced
from bedplate.core.attempt import Attempt, Identity, own_identity, read_identity
from cluster.rig import (
    FOREVER,
    STUBBORN,
    attempt_in,
    ended,
    journal_of,
    pids_in,
    printed,
    run_shim,
    runs,
    start_shim,
    wait_until,
)

REPORT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
COUNT = "import os; open('count', 'a').write(f'{os.getpid()}\\n')"
ON_NOTICE = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({code})); print('up', flush=True); time.sleep(600)"
# Leaves a process behind that has another session and parent, no environment, and prints nowhere.
DAEMON = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, stdout=-3, stderr=-3)
    open("daemon", "w").write(f"{child.pid}\\n")
    os._exit(0)
os.wait()
"""


# -- a good end -----------------------------------------------------------------------------------------------------------------------


def test_the_journal_of_an_attempt_that_succeeds(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "import os, sys; print('out', os.getcwd()); print('err', file=sys.stderr); print(sys.stdin.read())")
    entries = run_shim(attempt)
    assert [(entry.writer, entry.kind) for entry in entries] == [("shim", "started"), ("shim", "process"), ("shim", "ended")]
    identity = read_identity(attempt.path)
    assert identity is not None
    assert entries[0].body == {"identity": asdict(identity)}
    assert entries[1].body == {"rank": 0, "code": 0, "signal": None}
    assert entries[2].body == {"status": "succeeded", "failure": None, "message": ""}
    assert sorted(filter(None, printed(attempt))) == ["err", f"out {tmp_path}"]


def test_every_rank_gets_torchruns_environment_and_its_own_log(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, REPORT_ENVIRONMENT, processes=2, environment={"COLOR": "blue"})
    run_shim(attempt)
    told = [json.loads(printed(attempt, rank)[0]) for rank in (0, 1)]
    for rank, environment in enumerate(told):
        assert [environment[name] for name in ("RANK", "LOCAL_RANK", "ROLE_RANK", "GROUP_RANK")] == [*[str(rank)] * 3, "0"]
        assert [environment[name] for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE", "GROUP_WORLD_SIZE")] == [*"2221"]
        assert (environment["TORCHELASTIC_RUN_ID"], environment["TORCHELASTIC_RESTART_COUNT"]) == ("fit-1", "0")
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        assert environment["COLOR"] == "blue"
        assert (environment["JAX_NUM_PROCESSES"], environment["JAX_PROCESS_ID"]) == ("2", str(rank))
        assert environment["JAX_COORDINATOR_ADDRESS"] == environment["JAX_COORDINATOR_BIND_ADDRESS"]
        assert environment["JAX_COORDINATOR_ADDRESS"] != f"127.0.0.1:{environment['MASTER_PORT']}"
    assert told[0]["MASTER_PORT"] == told[1]["MASTER_PORT"]
    assert told[0]["JAX_COORDINATOR_ADDRESS"] == told[1]["JAX_COORDINATOR_ADDRESS"]
    assert int(told[0]["MASTER_PORT"]) > 0


def test_the_port_where_ranks_meet_is_kept_for_them(tmp_path: Path) -> None:
    """Nobody else on this machine can be given it while they start, and rank 0 listens there as PyTorch's store does."""
    script = """
import os, socket, time
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    try:
        socket.socket().bind(place)
    except OSError as error:
        print(error.strerror)
    with socket.create_server(place) as listener:  # with SO_REUSEADDR
        print(listener.accept()[0].recv(5).decode())
else:
    while True:
        try:
            socket.create_connection(place).sendall(b"hello")
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
"""
    attempt = attempt_in(tmp_path, script, processes=2)
    run_shim(attempt)
    assert printed(attempt) == ["Address already in use", "hello"]
    assert ended(attempt)["status"] == "succeeded"


def test_what_is_served_is_around_the_children(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, REPORT_ENVIRONMENT, shim=("5", "serve"))
    entries = run_shim(attempt)
    assert json.loads(printed(attempt)[0])["SERVED"] == "fit-1"
    texts = [entry.body.get("text", entry.kind) for entry in entries]
    assert texts == ["started", "serving", "process", "served", "ended"]


def test_a_long_attempt_has_a_heartbeat(tmp_path: Path) -> None:
    script = (
        "import time, pathlib\nwhile b'heartbeat' not in pathlib.Path('runs/fit-1/1/journal/shim.jsonl').read_bytes(): time.sleep(0.02)"
    )
    assert "heartbeat" in [entry.kind for entry in run_shim(attempt_in(tmp_path, script))]


def test_what_an_attempt_leaves_running_is_ended_before_it_is(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, DAEMON)
    run_shim(attempt)
    assert ended(attempt)["status"] == "succeeded"
    [daemon] = pids_in(tmp_path / "daemon")
    assert not runs(daemon)


# -- a bad end ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "failure", "said"),
    [
        ("import sys; sys.exit(75)", "stopped", None, ""),
        ("import sys; sys.exit(70)", "failed", "worker_lost", "rank 0 was lost"),
        ("import sys; print('one'); print('two'); sys.exit(3)", "failed", "user_error", "rank 0 ended with exit code 3: one | two"),
        ("import sys; sys.exit(255)", "failed", "user_error", "rank 0 ended with exit code 255: it printed nothing"),
        ("raise ValueError('no such column')", "failed", "user_error", "ValueError: no such column"),
        ("import os; os.kill(os.getpid(), 9)", "failed", "worker_lost", "rank 0 was killed by SIGKILL"),
        ("import os; os.abort()", "failed", "worker_lost", "rank 0 was killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 40)", "failed", "worker_lost", "rank 0 was killed by signal 40"),
        ("import sys; sys.exit(137)", "failed", "worker_lost", "rank 0 was killed by SIGKILL"),  # how a shell tells of its child
    ],
)
def test_how_a_process_ends_is_how_the_attempt_ends(tmp_path: Path, script: str, status: str, failure: str | None, said: str) -> None:
    attempt = attempt_in(tmp_path, script)
    run_shim(attempt)
    end = ended(attempt)
    assert (end["status"], end["failure"]) == (status, failure)
    assert said in end["message"]


def test_a_clouds_notice_stops_the_attempt_but_one_that_is_older_does_not(tmp_path: Path) -> None:
    notice = tmp_path / "preempted"
    notice.write_text("the last machine")
    os.utime(notice, (1, 1))
    attempt = attempt_in(tmp_path, ON_NOTICE.format(code=75), spec={"preemption_notice": "preempted"})
    shim = start_shim(attempt)
    wait_until(lambda: "up" in printed(attempt))
    assert not ended_entries(attempt)
    notice.write_text("this machine")
    shim.wait(60)
    (end,) = ended_entries(attempt)
    assert end["status"] == "stopped"


def ended_entries(attempt: Attempt) -> list[dict[str, object]]:
    return [dict(entry.body) for entry in journal_of(attempt) if entry.kind == "ended"]


def test_a_long_log_is_told_by_its_last_lines(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, "import sys\nfor line in range(100_000): print('line', line)\nsys.exit(1)")
    run_shim(attempt)
    assert ended(attempt)["message"].endswith(": " + " | ".join(f"line {line}" for line in range(99_995, 100_000)))


def test_a_failure_that_a_rank_wrote_down_is_the_message(tmp_path: Path) -> None:
    """The rank that failed is believed before one that lost its peer by it."""
    script = """
import os, sys
from pathlib import Path
from bedplate.core.journal import JournalWriter
rank = int(os.environ["RANK"])
told = [("worker_lost", "connection closed"), ("user_error", "ValueError: lr is negative")][rank]
JournalWriter(Path("runs/fit-1/1"), f"rank-{rank}").write("failure", failure=told[0], message=told[1], rank=rank)
sys.exit(1)
"""
    attempt = attempt_in(tmp_path, script, processes=2)
    run_shim(attempt)
    assert ended(attempt) == {"status": "failed", "failure": "user_error", "message": "ValueError: lr is negative"}


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, argv=("no-such-program", "--fast"))
    run_shim(attempt)
    assert ended(attempt)["failure"] == "user_error"
    assert "'no-such-program' cannot be started" in ended(attempt)["message"]


def test_the_others_end_when_one_rank_fails(tmp_path: Path) -> None:
    """Also what they started, and also those that would not hear of it."""
    script = f"""
import os, subprocess, sys
open('count', 'a').write(f'{{os.getpid()}}\\n')
if os.environ["RANK"] == "1":
    while len(open('count').read().splitlines()) < 3: pass
    sys.exit(1)
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
open('count', 'a').write(f'{{child.pid}}\\n')
child.wait()
"""
    attempt = attempt_in(tmp_path, script, processes=2)
    run_shim(attempt)
    assert ended(attempt)["message"].startswith("rank 1 ended with exit code 1")
    assert len(pids_in(tmp_path / "count")) == 3
    assert not [pid for pid in pids_in(tmp_path / "count") if runs(pid)]


def test_a_shim_that_fails_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, FOREVER, shim=("5", "broken"))
    assert start_shim(attempt).wait(60) == 1
    assert ended(attempt) == {"status": "failed", "failure": "worker_lost", "message": "its shim failed: RuntimeError: no port is free"}
    assert "no port is free" in (attempt.path / "logs" / "shim.log").read_text()


# -- time and notices -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [FOREVER, STUBBORN, ON_NOTICE.format(code=75), ON_NOTICE.format(code=0)])
def test_an_attempt_that_takes_too_long_is_ended(tmp_path: Path, script: str) -> None:
    attempt = attempt_in(tmp_path, script, shim=("0.2",), max_time_s=0.5)
    run_shim(attempt)
    assert ended(attempt) == {"status": "failed", "failure": "timeout", "message": "it took longer than max_time, 0.5 s"}


@pytest.mark.parametrize("script", [FOREVER, STUBBORN, ON_NOTICE.format(code=75), ON_NOTICE.format(code=0), ON_NOTICE.format(code=1)])
def test_the_stop_notice_is_passed_on(tmp_path: Path, script: str) -> None:
    attempt = attempt_in(tmp_path, script, shim=("0.3",))
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    shim.send_signal(signal.SIGTERM)
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(60) == 0
    assert ended(attempt) == {"status": "stopped", "failure": None, "message": ""}
    code = next(entry.body["code"] for entry in journal_of(attempt) if entry.kind == "process")
    assert code == {FOREVER: -signal.SIGTERM, STUBBORN: -signal.SIGKILL}.get(script, code)


def test_a_stop_notice_before_the_first_child_is_heeded(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, STUBBORN, shim=("0.3", "slow"), processes=2)
    os.mkfifo(attempt.path / "go")
    shim = start_shim(attempt)
    wait_until(lambda: "message" in [entry.kind for entry in journal_of(attempt)])
    shim.send_signal(signal.SIGTERM)
    (attempt.path / "go").write_text("on")
    assert shim.wait(60) == 0
    assert ended(attempt) == {"status": "stopped", "failure": None, "message": ""}


def test_the_stop_notice_reaches_a_program_behind_a_shell(tmp_path: Path) -> None:
    program = ON_NOTICE.format(code="open('saved', 'w').write('all of it')")
    attempt = attempt_in(tmp_path, argv=("/bin/sh", "-c", f'{sys.executable} -c "{program}" && echo never'))
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(60) == 0
    assert (tmp_path / "saved").read_text() == "all of it"
    assert ended(attempt)["status"] == "stopped"


def test_an_interrupt_is_for_the_foreground_command_and_not_for_the_shim(tmp_path: Path) -> None:
    """Its children know interrupts as everyone does: one can use them on its own."""
    attempt = attempt_in(tmp_path, argv=("/bin/sh", "-c", "echo up; read line < go; kill -INT $$"))
    os.mkfifo(tmp_path / "go")
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    shim.send_signal(signal.SIGINT)
    (tmp_path / "go").write_text("on\n")
    assert shim.wait(60) == 0
    assert ended(attempt)["message"] == "rank 0 was killed by SIGINT"


# -- services -------------------------------------------------------------------------------------------------------------------------


def test_a_service_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, f"{COUNT}; raise SystemExit(len(open('count').readlines()) % 2)", restart=True)
    shim = start_shim(attempt)
    wait_until(lambda: len(pids_in(tmp_path / "count")) >= 3)
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(60) == 0
    assert ended(attempt)["status"] == "stopped"
    codes = [entry.body["code"] for entry in journal_of(attempt) if entry.kind == "process"]
    assert codes[:2] == [1, 0]
    assert len(pids_in(tmp_path / "count")) == len(set(pids_in(tmp_path / "count")))


def test_what_a_dead_service_left_is_gone_before_it_is_started_again(tmp_path: Path) -> None:
    again = "import os, time; print(os.path.exists('/proc/' + open('daemon').read().strip()), flush=True); time.sleep(600)"
    script = f"import os, sys\nif not os.path.exists('daemon'):\n    exec({DAEMON!r})\n    sys.exit(1)\n{again}"
    attempt = attempt_in(tmp_path, script, restart=True)
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt))
    assert printed(attempt) == ["False"]
    shim.send_signal(signal.SIGTERM)
    assert shim.wait(60) == 0


# -- kills and doubles ----------------------------------------------------------------------------------------------------------------


def test_children_die_with_their_shim(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, f"{COUNT}; {STUBBORN}", processes=2)
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt, 0) and printed(attempt, 1))
    shim.kill()
    shim.wait(60)
    wait_until(lambda: not [pid for pid in pids_in(tmp_path / "count") if runs(pid)])
    assert "ended" not in [entry.kind for entry in journal_of(attempt)]


def test_a_second_shim_touches_nothing(tmp_path: Path) -> None:
    """Not while the first one runs, not when it ended, and not when it was killed."""
    attempt = attempt_in(tmp_path, f"{COUNT}; {FOREVER}")
    shim = start_shim(attempt)
    wait_until(lambda: printed(attempt) == ["up"])
    before = read_identity(attempt.path), [entry for entry in journal_of(attempt) if entry.kind != "heartbeat"]
    assert start_shim(attempt).wait(60) == 0
    shim.kill()
    shim.wait(60)
    assert start_shim(attempt).wait(60) == 0
    assert (read_identity(attempt.path), [entry for entry in journal_of(attempt) if entry.kind != "heartbeat"]) == before
    assert len(pids_in(tmp_path / "count")) == 1


def test_many_shims_at_once_run_an_attempt_once(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, COUNT)
    codes = [shim.wait(60) for shim in [start_shim(attempt) for _ in range(4)]]
    assert set(codes) <= {0, -signal.SIGKILL}, "the one that ran it may have swept up others before they had begun"
    assert len(pids_in(tmp_path / "count")) == 1
    assert ended(attempt)["status"] == "succeeded"


def test_a_claim_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    holder = """
import sys, time
from pathlib import Path
from bedplate.cluster.shim import claimed
with claimed(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with claimed(tmp_path) as mine:
            assert not mine
        assert not fenced(tmp_path, own_identity(1))
        assert read_identity(tmp_path) is None
        process.kill()
    with claimed(tmp_path) as mine:
        assert mine


def test_a_fenced_attempt_is_never_begun(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, COUNT)
    dead = Identity("of another boot", 1, 1, 1)
    assert fenced(attempt.path, dead)
    assert fenced(attempt.path, own_identity(1)), "again, and the first identity stays"
    assert start_shim(attempt).wait(60) == 0
    assert read_identity(attempt.path) == dead
    assert journal_of(attempt) == []
    assert not (tmp_path / "count").exists()


def test_a_shim_needs_the_standard_library_only() -> None:
    script = (
        "import sys, bedplate.cluster.shim as s; print([n for n in sys.modules if n in ('pydantic', 'psutil', 'numpy', 'yaml', 'blake3')])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "[]\n"
