"""One scheduling pass over 10,000 nodes of 8 devices with 100,000 jobs that wait: a full cluster and an empty one, time and memory."""

from __future__ import annotations

import random
import resource
from typing import Final

from bedplate.cluster.queue import Job, Pass, Place, Project, Running, State, explained, scheduled
from bench.table import Row, median_s

NODES, PER_NODE, JOBS, PROJECTS = 10_000, 8, 100_000, 20
SHAPES: Final = ((1, 250), (1, 500), (1, 1000), (1, 2000), (1, 8000), (4, 8000), (16, 8000))
REPEATS: Final = 3
NOW_S: Final = 100_000.0


def rows() -> list[Row]:
    """The bars are those of the pass: a second, and 2 GB for the whole process."""
    found = []
    for name, full in (("full", True), ("empty", False)):
        state = _state(full=full)
        pass_s, spread = median_s(lambda state=state: scheduled(state, NOW_S), REPEATS)
        found.append(Row(f"queue: one pass, 10,000 nodes ({name}), 100,000 jobs wait", pass_s, "s", spread, limit=1.0))
        made = Pass(state, NOW_S)
        waiting = [each.job for each in made.decisions if each.verdict.kind == "wait"][:: JOBS // 50]
        took = [median_s(lambda each=each, state=state, made=made: explained(state, made, each), 1)[0] for each in waiting]
        found.append(Row(f"queue: why a job waits, the slowest of {len(took)} ({name})", max(took), "s", limit=0.05))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return [*found, Row("queue: peak memory of both", peak_gb, "GB", limit=2.0)]


def _state(*, full: bool) -> State:
    drawn = random.Random(0)
    total = NODES * PER_NODE * 1000
    projects = tuple(Project(f"p{each}", total // PROJECTS, total, drawn.uniform(0, 1e6)) for each in range(PROJECTS))
    running = tuple(_running(drawn, node) for node in range(NODES)) if full else ()
    return State((PER_NODE,) * NODES, projects, tuple(_job(drawn, number) for number in range(JOBS)), running)


def _job(drawn: random.Random, number: int) -> Job:
    workers, milli = drawn.choice(SHAPES)
    project, priority = f"p{drawn.randrange(PROJECTS)}", drawn.choice((0, 0, 0, 1, 2))
    return Job(f"j{number}", project, drawn.uniform(0, NOW_S), workers, milli, priority, drawn.choice((None, drawn.uniform(600, 90_000))))


def _running(drawn: random.Random, node: int) -> Running:
    job = Job(f"r{node}", f"p{drawn.randrange(PROJECTS)}", 0.0, 1, PER_NODE * 1000, drawn.choice((0, 1)), drawn.uniform(1e5, 2e5))
    started_s = drawn.uniform(0, NOW_S)
    return Running(job, (Place(node, tuple(range(PER_NODE))),), started_s, drawn.uniform(started_s, NOW_S))
