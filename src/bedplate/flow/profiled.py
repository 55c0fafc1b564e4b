"""Asking for a profiled window: the same project, in which jobs have one.

Does not know: what a window measures (`train.profiling`).
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.core.spec import ProfiledSteps
from bedplate.flow.workspace import Workspace


def with_profile(workspace: Workspace, jobs: Sequence[str]) -> Workspace:
    """The workspace with a profiled window of the usual length in each of `jobs` that declares none."""
    spec = workspace.project.spec.model_dump(mode="json", by_alias=True)
    for name in jobs:
        spec["jobs"][name]["profile"] = spec["jobs"][name]["profile"] or ProfiledSteps().model_dump()
    return workspace.with_spec(spec) if jobs else workspace
