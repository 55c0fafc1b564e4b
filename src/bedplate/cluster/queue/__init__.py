"""Who runs next: one pure pass over what waits, with a reason for every decision from which it can be made again.

Does not know: files, runs, or how a job is started and stopped; whoever calls it carries the decisions out.
"""

from bedplate.cluster.queue.decision import Decision, Facts, Place, Verdict, Victim, replayed
from bedplate.cluster.queue.schedule import Pass, scheduled
from bedplate.cluster.queue.state import Job, Project, Running, State
from bedplate.cluster.queue.waiting import Change, Holder, Waiting, explained

__all__ = [
    "Change",
    "Decision",
    "Facts",
    "Holder",
    "Job",
    "Pass",
    "Place",
    "Project",
    "Running",
    "State",
    "Verdict",
    "Victim",
    "Waiting",
    "explained",
    "replayed",
    "scheduled",
]
