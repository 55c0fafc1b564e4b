import os
import signal
import socket
from pathlib import Path

from bedplate.core.attempt import Attempt
from bedplate.train.board import Board
from bedplate.train.forking import LOOPBACK, Forks, torchrun_environment
from bedplate.train.seat import Assignment, Seat
from train.samples import attempt_in


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
    assert failure["message"] == "KeyError: 'day' (test_forking.py:17)"
    assert "Traceback" in str(failure["traceback"])


def test_the_environment_is_torchruns(tmp_path: Path) -> None:
    environment = torchrun_environment(attempt_in(tmp_path, token=3, world_size=2), 1, 4711)
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["TORCHELASTIC_RESTART_COUNT"]) == ("1", "2", "2")
