"""Timings in the journals of a simulated run, as ranks write them."""

from __future__ import annotations

import json

from bedplate.train.timers import Timers
from flow.world import World


def write_timings(world: World, run_id: str, *, ranks: int, steps: int = 30, input_s: float = 0.002, slow: int = -1) -> None:
    """Every rank of the run's newest attempt did `steps` steps of 10 ms within it; rank `slow` computes longer, and the others wait."""
    attempt = world.run(run_id).attempts[-1]
    for rank in range(ranks):
        now_s = attempt.started_at_s
        rows = []
        timers = Timers(lambda: now_s)  # noqa: B023 - the clock of this rank
        timers.begin()
        for step in range(1, steps + 1):
            extra_s = 0.006 if slow >= 0 else 0.0
            for name, duration_s in (
                ("input", input_s),
                ("compute", 0.007 + (extra_s if rank == slow else 0.0)),
                ("communication", 0.001 + (0.0 if rank == slow else extra_s)),
            ):
                with timers.span(name):
                    now_s += duration_s
            timers.end_step(step)
            rows += [(now_s, row) for row in timers.drain()]
        rows += [(now_s, row) for row in timers.drain(last=True)]
        path = world.workspace.attempt_folder(run_id, attempt.token) / "journal" / f"rank-{rank}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_text().splitlines() if path.exists() else []
        lines = [json.dumps({"n": 1000 + number, "at": at_s, "kind": "timing", "body": row}) for number, (at_s, row) in enumerate(rows)]
        path.write_text("\n".join([*known, *lines]) + "\n")
