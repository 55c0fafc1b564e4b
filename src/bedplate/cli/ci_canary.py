"""`bedplate ci canary`.

Does not know: which requests are asked, or what follows from a failure.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.clock import duration_s
from bedplate.flow.canary import check
from bedplate.flow.workspace import open_workspace


def ci_canary(
    endpoint: Annotated[str, typer.Argument(help="an endpoint that is up")],
    requests: Annotated[int, typer.Option(help="how many requests to ask", min=1)] = 20,
    file: Annotated[Path | None, typer.Option(help="requests, one JSON object a line", show_default="the newest rows of its spine")] = None,
    latency: Annotated[str | None, typer.Option(help="the slowest percent must take less, as 50ms")] = None,
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> int:
    """Ask an endpoint requests that it must answer. Ends with 1 when one fails.

    Example: bedplate ci canary delay-api --requests 20
    """
    with open_workspace(project) as workspace:
        found = check(workspace, endpoint, requests, file, duration_s(latency) if latency else None)
    well = f"{found.asked - len(found.failed)} of {found.asked} requests to {endpoint} ({found.model}) are well"
    text = "\n".join([*found.failed[:10], f"{well}, p99 {found.latency_p99_s * 1000:.1f} ms"])
    show(asdict(found), text, as_json)
    return 1 if found.failed else 0
