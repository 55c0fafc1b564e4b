import os
import signal
import socket
import time
from pathlib import Path

import pytest

from bedplate.core.attempt import Attempt, start_ticks
from bedplate.train.board import Board
from bedplate.train.forking import LOOPBACK, Forks, let_go, torchrun_environment
from bedplate.train.notice import Stopped
from bedplate.train.seat import Assignment, Seat
from train.samples import attempt_in, wait_until


def main(attempt: Attempt, seat: Seat) -> None:
    seat.tell("here", rank=seat.rank, generation=seat.generation, size=os.environ["WORLD_SIZE"], port=os.environ["MASTER_PORT"])
    os.write(1, b"printed by a rank\n")  # not by print: pytest has taken its place
    if attempt.spec.get("fails"):
        raise KeyError("day")


def forked(attempt: Attempt, assignment: Assignment | None = None) -> tuple[int, list[dict[str, object]], int]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        forks = Forks(main, Board(2))
        forks.begin(listener)
        pid, line = forks.fork(attempt, 1, assignment, [])
        _, status = os.waitpid(pid, 0)
        messages = line.received(wait=False) or []
        line.close()
        return os.waitstatus_to_exitcode(status), messages, listener.getsockname()[1]


def test_a_rank_knows_its_seat_and_its_output_goes_to_its_log(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2)
    code, (here,), port = forked(attempt)
    assert code == 0
    assert here == {"kind": "here", "rank": 1, "generation": 0, "size": "2", "port": str(port)}
    assert attempt.log(1).read_text() == "printed by a rank\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "what a rank undoes is not undone here"


def test_a_replacement_begins_in_its_generation(tmp_path: Path) -> None:
    _, (here,), _ = forked(attempt_in(tmp_path, world_size=2), Assignment(3, 1, 2))
    assert here["generation"] == 3


def test_an_error_is_told_to_the_host(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2, fails=True)
    code, messages, _ = forked(attempt)
    assert code == 1
    failure = messages[-1]["failure"]
    assert isinstance(failure, dict)
    assert (failure["failure"], failure["rank"]) == ("user_error", 1)
    line = main.__code__.co_firstlineno + 4
    assert failure["message"] == f"KeyError: 'day' (test_forking.py:{line})"
    assert "Traceback" in str(failure["traceback"])


def test_the_environment_is_torchruns(tmp_path: Path) -> None:
    environment = torchrun_environment(attempt_in(tmp_path, token=3, world_size=2), 1, 4711)
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["TORCHELASTIC_RESTART_COUNT"]) == ("1", "2", "2")


def test_a_process_that_is_let_go_prints_into_its_log_and_ends_with_its_host(tmp_path: Path) -> None:
    log, host = tmp_path / "logs" / "beside.log", os.fork()
    if host == 0:
        parent = os.getpid()
        beside = os.fork()
        if beside == 0:
            let_go(log, parent)
            os.write(1, f"here is {os.getpid()}, {os.environ['RUST_LOG']}\n".encode())
            time.sleep(60)
            os._exit(0)
        time.sleep(60)
        os._exit(0)
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    pid, _, level = log.read_text().removeprefix("here is ").strip().partition(", ")
    assert level == os.environ.get("RUST_LOG", "warn")
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)
    wait_until(lambda: start_ticks(int(pid)) is None)


def stops(attempt: Attempt, seat: Seat) -> None:
    raise Stopped


def exits(attempt: Attempt, seat: Seat) -> None:
    raise SystemExit(attempt.spec["code"])


def tells(attempt: Attempt, seat: Seat) -> None:
    stacks = attempt.path / "stacks" / "rank-1.txt"
    seat.tell("told", input=os.read(0, 1).decode(), stacks=stacks.exists(), threads=os.environ["OMP_NUM_THREADS"], group=os.getppid())


def ended(main_: object, attempt: Attempt) -> tuple[int, list[dict[str, object]]]:
    """The exit code of a forked rank that does `main_`, and what it told."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        forks = Forks(main_, Board(2))  # type: ignore[arg-type] # one of those above
        forks.begin(listener)
        pid, line = forks.fork(attempt, 1, None, [])
        _, status = os.waitpid(pid, 0)
        messages = line.received(wait=False) or []
        line.close()
    return os.waitstatus_to_exitcode(status), messages


def test_a_rank_that_stopped_on_notice_says_so_by_its_exit_code_alone(tmp_path: Path) -> None:
    assert ended(stops, attempt_in(tmp_path, world_size=2)) == (75, [])


@pytest.mark.parametrize(("code", "exit_code", "told"), [(0, 0, 0), (None, 0, 0), (3, 1, 1), ("no data", 1, 1)])
def test_user_code_that_leaves_is_done_or_failed(tmp_path: Path, code: object, exit_code: int, told: int) -> None:
    found, messages = ended(exits, attempt_in(tmp_path, world_size=2, code=code))
    assert (found, len(messages)) == (exit_code, told)
    assert all("SystemExit" in str(each["failure"]) for each in messages)


def test_a_rank_reads_nothing_has_a_file_for_its_stacks_and_its_share_of_the_processors(tmp_path: Path) -> None:
    code, (told,) = ended(tells, attempt_in(tmp_path, world_size=2))
    assert code == 0
    assert (told["input"], told["stacks"], told["group"]) == ("", True, os.getpid())
    assert told["threads"] == str(max(1, len(os.sched_getaffinity(0)) // 2))


def test_a_second_life_of_a_rank_writes_behind_the_first_in_the_log(tmp_path: Path) -> None:
    attempt = attempt_in(tmp_path, world_size=2)
    forked(attempt)
    forked(attempt)
    assert attempt.log(1).read_text() == "printed by a rank\n" * 2


@pytest.mark.parametrize(("world_size", "rank", "token"), [(1, 0, 1), (4, 3, 2)])
def test_every_rank_is_told_of_one_machine(tmp_path: Path, world_size: int, rank: int, token: int) -> None:
    environment = torchrun_environment(attempt_in(tmp_path, token=token, world_size=world_size), rank, 4711)
    assert environment["LOCAL_RANK"] == environment["RANK"] == str(rank)
    assert environment["LOCAL_WORLD_SIZE"] == environment["WORLD_SIZE"] == str(world_size)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"], environment["GROUP_RANK"]) == (LOOPBACK, "4711", "0")
    assert (environment["TORCHELASTIC_RUN_ID"], environment["TORCHELASTIC_RESTART_COUNT"]) == ("r1", str(token - 1))
