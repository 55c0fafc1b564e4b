"""`--detach`: leave a launch to the server of the project, which is started when none is there.

Does not know: what a launch does.
"""

from __future__ import annotations

from bedplate.cli.command import show
from bedplate.flow.drive import is_hosted, start_server
from bedplate.flow.workspace import Workspace


def detach(workspace: Workspace, launch: str, as_json: bool) -> int:
    """Hand `launch` over and say how to follow it. Returns 0."""
    if not is_hosted(workspace):
        start_server(workspace)
    text = f"{launch} goes on in the background\n\nnext: bedplate ps\n      bedplate logs -f RUN\n      bedplate down"
    show({"launch": launch}, text, as_json)
    return 0
