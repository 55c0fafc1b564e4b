import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bedplate.train.board import Standing
from bedplate.train.hangs import FLOOR_S, Limits, inspect, missing_of, process_state, stuck_s
from train.samples import wait_until


def standing(steps: int = 5, place: str = "user", moved_at_s: float = 0.0, longest_step_s: float = 1.0) -> Standing:
    return Standing(steps, place, moved_at_s, longest_step_s)


def test_the_limit_is_learned_from_the_longest_step() -> None:
    assert Limits().of([standing(longest_step_s=20.0), standing(longest_step_s=1.0)]) == 200.0
    assert Limits().of([standing(longest_step_s=0.01)]) == FLOOR_S
    assert Limits(step_s=3.0).of([standing(longest_step_s=20.0)]) == 3.0


@pytest.mark.parametrize(
    "other", [standing(place="start"), standing(place="outside"), standing(place="restore"), standing(longest_step_s=0.0)]
)
def test_start_up_compilation_and_what_is_outside_the_loop_have_a_limit_of_their_own(other: Standing) -> None:
    assert Limits(step_s=3.0, start_s=77.0).of([standing(), other]) == 77.0


def test_one_rank_that_moves_is_progress() -> None:
    assert stuck_s([standing(moved_at_s=10.0), standing(moved_at_s=14.0)], 15.0) == 1.0


@pytest.mark.parametrize(
    ("reached", "steps", "waits", "missing"),
    [
        ({0: 7, 1: 7, 2: 6}, (5, 5, 5), (True, True, True), (2,)),
        ({0: 7, 1: -1, 2: 7}, (5, 5, 5), (True, False, True), (1,)),
        ({0: 7, 1: 7, 2: 7}, (5, 4, 5), (True, True, True), (1,)),
        ({0: 7, 1: 7, 2: 7}, (5, 5, 5), (True, False, True), (1,)),
        ({0: 7, 1: 7, 2: 7}, (5, 5, 5), (False, False, False), ()),
    ],
)
def test_who_did_not_arrive(reached: dict[int, int], steps: tuple[int, ...], waits: tuple[bool, ...], missing: tuple[int, ...]) -> None:
    assert missing_of(reached, dict(enumerate(waits)), {rank: standing(count) for rank, count in enumerate(steps)}) == missing


def test_stacks_are_written_by_processes_that_are_stuck_and_a_stopped_one_is_said_to_be(tmp_path: Path) -> None:
    program = (
        "import faulthandler, signal, sys, time\n"
        "faulthandler.register(signal.SIGUSR2, file=open(sys.argv[1], 'a'), chain=False)\n"
        "def lost_in_thought():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "lost_in_thought()\n"
    )
    ranks = {}
    for rank in (0, 1):
        ranks[rank] = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / f"rank-{rank}.txt")], stdout=subprocess.PIPE)
        stream = ranks[rank].stdout
        assert stream is not None
        assert stream.readline() == b"ready\n"
    try:
        os.kill(ranks[1].pid, signal.SIGSTOP)
        wait_until(lambda: process_state(ranks[1].pid) == "stopped")
        report = inspect(
            tmp_path, {rank: each.pid for rank, each in ranks.items()}, {0: standing(6), 1: standing(5)}, lambda rank, path: None
        )
        assert report.missing == (1,)
        assert "lost_in_thought" in Path(report.stacks[0]).read_text()
        assert "rank 1 did not arrive" in report.message(4.2)
        assert "did not answer (stopped)" in report.message(4.2)
    finally:
        for each in ranks.values():
            each.kill()
            each.communicate()
    assert process_state(ranks[0].pid) == "gone"
