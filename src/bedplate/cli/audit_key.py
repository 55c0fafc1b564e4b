"""`bedplate audit key`.

Does not know: where keys are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.core.atomic import write_bytes
from bedplate.core.heads import key_id, signing_key
from bedplate.core.settings import read_settings
from bedplate.flow.deciding import public_pem
from bedplate.flow.deciding import trust as trust_key
from bedplate.flow.workspace import open_workspace


def audit_key(
    out: Annotated[Path | None, typer.Option(help="a file to write the public key to")] = None,
    trust: Annotated[Path | None, typer.Option(help="the public key of somebody whose decisions count here from now on")] = None,
    reason: Annotated[str, typer.Option(help="with --trust: whose key it is; it is recorded")] = "",
    project: ProjectFolder = Path(),
    as_json: AsJson = False,
) -> None:
    """The public half of the key that signs decisions and heads (Ed25519, in PEM), for whoever verifies them elsewhere.

    Example: bedplate audit key --out flights.pem
    """
    if trust is not None:
        with open_workspace(project) as workspace:
            known = trust_key(workspace, trust, reason)
        show({"trusted": known}, f"decisions signed by {known} count here from now on", as_json)
        return
    key = signing_key(read_settings().home).public_key()
    pem = public_pem(key)
    if out is not None:
        write_bytes(out, pem)
    show({"key_id": key_id(key), "pem": pem.decode()}, f"key {key_id(key)}\n{pem.decode().rstrip()}", as_json)
