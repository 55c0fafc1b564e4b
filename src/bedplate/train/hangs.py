"""Hangs: when ranks that are alive make no progress, and which of them did not arrive where the others wait.

The limit of a step is learned from the longest one so far. Start-up and compilation (until the second step is finished), restoring and
work outside the loop have a limit of their own. Before anything is killed each rank's stacks are written by faulthandler, which works
also while a rank is stuck in a collective, and torch's flight recorder says which collectives each has reached.
Does not know: what is done about a hang (`ranks`).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.train.board import Standing

STACK_SIGNAL = signal.SIGUSR2
FLOOR_S = 30.0  # no step is called hung sooner
TIMES_LONGEST = 10.0
START_LIMIT_S = 1800.0
DUMP_S = 2.0
WAITING = ("all_reduce", "barrier", "broadcast", "gather", "_engine_run_backward", "wait", "_meet", "backward", "agree", "share")


@dataclass(frozen=True)
class Limits:
    """Seconds without progress after which a rank counts as hung: in the loop (None: learned) and before or outside it."""

    step_s: float | None = None
    start_s: float = START_LIMIT_S

    def of(self, standings: Sequence[Standing]) -> float:
        """The limit that holds for ranks that stand so."""
        in_loop = [each for each in standings if each.place in ("input", "user", "meeting", "checkpoint")]
        if len(in_loop) < len(standings) or min(each.longest_step_s for each in standings) == 0.0:
            return self.start_s
        longest_s = max(each.longest_step_s for each in standings)
        return self.step_s if self.step_s is not None else max(FLOOR_S, TIMES_LONGEST * longest_s)


def stuck_s(standings: Sequence[Standing], now_s: float) -> float:
    """For how long no rank has moved."""
    return now_s - max(each.moved_at_s for each in standings)


@dataclass(frozen=True)
class Report:
    """What was found: ranks that did not arrive, where each stands, its stacks' files."""

    missing: tuple[int, ...]
    places: Mapping[int, str]
    stacks: tuple[str, ...]
    collectives: Mapping[int, int]

    def message(self, waited_s: float) -> str:
        """One line."""
        who = ", ".join(map(str, self.missing))
        missing = f"rank{'s' if len(self.missing) > 1 else ''} {who} did not arrive" if self.missing else "all ranks wait in vain"
        where = "; ".join(f"rank {rank}: {place}" for rank, place in sorted(self.places.items()))
        return f"no progress for {waited_s:.0f} s: {missing} ({where})"


def inspect(folder: Path, ranks: Mapping[int, int], standings: Mapping[int, Standing], ask: Callable[[int, Path], None]) -> Report:
    """Have every rank (number -> pid) write its stacks and its collectives below `folder`, and say who did not arrive.

    `ask(rank, path)` has a rank's flight recorder written to `path`. Waits two seconds at most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recorded = {rank: folder / f"rank-{rank}.collectives.json" for rank in ranks}
    for rank, pid in ranks.items():
        recorded[rank].unlink(missing_ok=True)
        ask(rank, recorded[rank])
        with suppress(ProcessLookupError):  # it ends just now
            os.kill(pid, STACK_SIGNAL)
    deadline_s = time.monotonic() + DUMP_S
    while time.monotonic() < deadline_s and not all(path.exists() and _stack(folder, rank) for rank, path in recorded.items()):
        time.sleep(0.05)
    reached = {rank: _reached(path) for rank, path in recorded.items()}
    waits = {rank: _waits(_stack(folder, rank)) for rank in ranks}
    stacks = tuple(str(stack_file(folder, rank)) for rank in ranks if _stack(folder, rank))
    places = {rank: _place(standings[rank], reached[rank], waits[rank], pid) for rank, pid in ranks.items()}
    return Report(missing_of(reached, waits, standings), places, stacks, {rank: number for rank, number in reached.items() if number >= 0})


def missing_of(reached: Mapping[int, int], waits: Mapping[int, bool], standings: Mapping[int, Standing]) -> tuple[int, ...]:
    """Who did not arrive: those with fewer collectives than the furthest, else those with fewer steps, else those that do not wait."""
    for counts in (reached, {rank: standing.steps for rank, standing in standings.items()}):
        behind = [rank for rank, count in counts.items() if count < max(counts.values())]
        if behind:
            return tuple(sorted(behind))
    idle = [rank for rank, waiting in waits.items() if not waiting]
    return tuple(sorted(idle)) if len(idle) < len(waits) else ()


def stack_file(folder: Path, rank: int) -> Path:
    """Where a rank's faulthandler writes."""
    return folder / f"rank-{rank}.txt"


def _stack(folder: Path, rank: int) -> str:
    path = stack_file(folder, rank)
    return path.read_text(errors="replace") if path.exists() else ""


def _waits(stack: str) -> bool:
    """Whether the main thread's innermost Python frames are those of a collective."""
    frames = [line.strip().rpartition(" in ")[2] for line in stack.rpartition("Current thread")[2].splitlines() if " in " in line]
    return any(frame in WAITING for frame in frames[:3])


def _reached(path: Path) -> int:
    """How many collectives a rank has begun, -1 when it did not say."""
    if not path.exists():
        return -1
    entries: list[dict[str, Any]] = json.loads(path.read_text())["collectives"]
    return max((int(entry["collective_seq_id"] or 0) for entry in entries), default=0)


def _place(standing: Standing, reached: int, waits: bool, pid: int) -> str:
    told = f"step {max(standing.steps, 0)}, {'in a collective' if waits else 'in ' + standing.place}"
    if reached < 0:
        return f"{told}, did not answer ({process_state(pid)})"
    return f"{told}, {reached} collectives begun"


def process_state(pid: int) -> str:
    """The state letter of a process in words, as in proc(5)."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return {"T": "stopped", "t": "traced", "D": "waits for a disk", "R": "runs", "S": "sleeps", "Z": "ended"}.get(letter, letter)
