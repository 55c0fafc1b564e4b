"""The train step: a feed and a function of the user's, on the planned number of worker processes.

Does not know: how workers are forked or checkpoints written (`train`).
"""

from __future__ import annotations

from bedplate.core.attempt import Attempt
from bedplate.core.settings import read_cache
from bedplate.data.feed.samples import open_feed
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.entry import load_function
from bedplate.flow.steps.outputs import report_outputs
from bedplate.train.context import execute
from bedplate.train.ranks import run_ranks
from bedplate.train.seat import Seat


def work(attempt: Attempt) -> int:
    """Train; returns the exit code of the worker processes: 0, 1 for the user's error, 75 when stopped on notice.

    Raises JobError for a declared output that the function did not write.
    """
    code = run_ranks(attempt, rank_main)
    if code == 0:
        report_outputs(StepContext(attempt))
    return code


def rank_main(attempt: Attempt, seat: Seat) -> None:
    """What one worker process does."""
    step = StepContext(attempt, f"flow-{seat.rank}")
    feed = open_feed(step.path(f"{attempt.step}.inputs"), *read_cache())
    execute(attempt, feed, seat, load_function(attempt.spec["function"]))
