import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bedplate.train.board import Standing
from bedplate.train.hangs import (
    FLOOR_S,
    START_LIMIT_S,
    TIMES_LONGEST,
    Limits,
    Report,
    inspect,
    missing_of,
    process_state,
    stack_file,
    stuck_s,
)
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


@pytest.mark.parametrize("place", ["input", "user", "meeting", "checkpoint"])
def test_everywhere_in_the_loop_the_learned_limit_holds(place: str) -> None:
    assert Limits().of([standing(place=place, longest_step_s=40.0), standing(longest_step_s=2.0)]) == 40.0 * TIMES_LONGEST
    assert Limits(step_s=7.0).of([standing(place=place)]) == 7.0


def test_nothing_is_learned_before_every_rank_has_a_measured_step() -> None:
    assert Limits(step_s=1.0).of([standing(longest_step_s=5.0), standing(longest_step_s=0.0)]) == START_LIMIT_S
    assert Limits(step_s=1.0).of([standing(longest_step_s=5.0), standing(longest_step_s=0.001)]) == 1.0


@pytest.mark.parametrize(
    ("missing", "words"),
    [((), "all ranks wait in vain"), ((2,), "rank 2 did not arrive"), ((0, 3, 5), "ranks 0, 3, 5 did not arrive")],
)
def test_a_report_is_one_line_that_names_who_is_missed_and_where_all_stand(missing: tuple[int, ...], words: str) -> None:
    report = Report(missing, {1: "step 2, in user", 0: "step 3, in a collective"}, (), {})
    assert report.message(61.7) == f"no progress for 62 s: {words} (rank 0: step 3, in a collective; rank 1: step 2, in user)"


def gone() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait(30)
    return process.pid


def stack(*frames: str) -> str:
    """What faulthandler writes: another thread, then the current one with its innermost frame first."""
    lines = [f'  File "/somewhere/else.py", line {number} in {frame}' for number, frame in enumerate(frames, 1)]
    return "\n".join(["Thread 0x01 (most recent call first):", '  File "/a.py", line 1 in barrier', "", "Current thread 0x02:", *lines, ""])


def inspected(folder: Path, stacks: Sequence[str], collectives: Sequence[list[int | None]], steps: Sequence[int]) -> Report:
    """Inspect ranks whose stacks lie there already, and whose recorders answer at once."""
    for rank, text in enumerate(stacks):
        stack_file(folder, rank).write_text(text)

    def ask(rank: int, path: Path) -> None:
        path.write_text(json.dumps({"collectives": [{"collective_seq_id": each} for each in collectives[rank]]}))

    standings = {rank: standing(count) for rank, count in enumerate(steps)}
    return inspect(folder, {rank: gone() for rank in range(len(stacks))}, standings, ask)


def test_who_began_fewer_collectives_is_missed_whatever_its_stack_says(tmp_path: Path) -> None:
    report = inspected(tmp_path, [stack("barrier"), stack("all_reduce")], [[1, 2, 3], [1, 2]], (5, 5))
    assert report.missing == (1,)
    assert report.collectives == {0: 3, 1: 2}
    assert report.places == {0: "step 5, in a collective, 3 collectives begun", 1: "step 5, in a collective, 2 collectives begun"}
    assert report.stacks == (str(tmp_path / "rank-0.txt"), str(tmp_path / "rank-1.txt"))


@pytest.mark.parametrize(
    ("frames", "waits"),
    [
        (("all_reduce", "step", "main"), True),
        (("poll", "helper", "wait"), True),
        (("poll", "helper", "deeper", "wait"), False),
        (("read", "next", "load"), False),
        ((), False),
    ],
)
def test_only_the_innermost_frames_of_the_main_thread_tell_of_a_collective(tmp_path: Path, frames: tuple[str, ...], waits: bool) -> None:
    report = inspected(tmp_path, [stack("barrier"), stack(*frames)], [[4], [4]], (5, 5))
    assert report.missing == (() if waits else (1,))
    assert report.places[1].startswith("step 5, in a collective" if waits else "step 5, in user")


def test_the_newest_of_several_stacks_counts(tmp_path: Path) -> None:
    report = inspected(tmp_path, [stack("barrier"), stack("barrier") + stack("read")], [[4], [4]], (5, 5))
    assert report.missing == (1,)


def test_a_rank_that_began_no_collective_yet_has_begun_none(tmp_path: Path) -> None:
    report = inspected(tmp_path, [stack("barrier"), stack("read")], [[None, 1], []], (-1, -1))
    assert report.collectives == {0: 1, 1: 0}
    assert report.missing == (1,)
    assert report.places[1] == "step 0, in user, 0 collectives begun"


def test_what_a_recorder_wrote_for_an_earlier_hang_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "rank-0.collectives.json").write_text(json.dumps({"collectives": [{"collective_seq_id": 99}]}))
    report = inspected(tmp_path, [stack("barrier")], [[3]], (5,))
    assert report.collectives == {0: 3}


def test_the_state_of_this_process_and_of_none() -> None:
    assert process_state(os.getpid()) in ("runs", "sleeps", "waits for a disk")
    assert process_state(gone()) == "gone"


def test_a_child_that_nobody_waited_for_has_ended() -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: process_state(child.pid) == "ended")
    child.wait(30)
    assert process_state(child.pid) == "gone"
